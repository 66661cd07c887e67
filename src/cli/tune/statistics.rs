//! The mean of a few figures, and how sure it is.

/// Half the width of a 95 % interval in standard errors, for 1 to 30 degrees of freedom; for more it is at most the last.
///
/// # Source
/// NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2 (Student's t), column 0.975.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean with its 95 % confidence interval, by Student's t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    /// Infinite for one figure alone.
    pub half_width: f64,
}

impl Estimate {
    /// `None` without a figure.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let count = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / count;
        let freedom = figures.len().checked_sub(1)?;
        if freedom == 0 {
            return Some(Self { mean, half_width: f64::INFINITY });
        }
        let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / freedom as f64;
        let student = STUDENT[freedom.min(STUDENT.len()) - 1];
        Some(Self { mean, half_width: student * (variance / count).sqrt() })
    }

    pub fn low(&self) -> f64 {
        self.mean - self.half_width
    }

    pub fn high(&self) -> f64 {
        self.mean + self.half_width
    }

    /// Whether the whole of this interval lies below the other.
    pub fn is_below(&self, other: &Self) -> bool {
        self.high() < other.low()
    }

    /// Half the width, as a share of the mean.
    pub fn relative(&self) -> f64 {
        self.half_width / self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Box-Muller.
    pub fn normal(rng: &mut fastrand::Rng) -> f64 {
        (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
    }

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        let Estimate { mean, half_width } = Estimate::of(&[9.0, 10.0, 11.0]).unwrap();
        assert_eq!(mean, 10.0);
        assert!((half_width - 4.303 / 3f64.sqrt()).abs() < 1e-9, "{half_width}");
        assert_eq!(Estimate::of(&[]), None);
        let alone = Estimate::of(&[5.0]).unwrap();
        assert!(!alone.is_below(&Estimate::of(&[9.0, 9.0]).unwrap()), "one figure proves nothing");
    }

    #[test]
    fn nineteen_intervals_in_twenty_hold_the_truth() {
        let mut rng = fastrand::Rng::with_seed(1);
        for count in [2, 3, 5, 12, 40] {
            let holds = |rng: &mut fastrand::Rng| {
                let figures: Vec<_> = (0..count).map(|_| 100.0 + 7.0 * normal(rng)).collect();
                let found = Estimate::of(&figures).unwrap();
                (found.low()..=found.high()).contains(&100.0)
            };
            let held = (0..20_000).filter(|_| holds(&mut rng)).count();
            assert!((18_850..=19_150).contains(&held), "{count} figures: {held} of 20,000");
        }
    }
}
