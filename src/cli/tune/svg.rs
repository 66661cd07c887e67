//! Just enough SVG to draw a plot into a page.

use std::fmt::Write;

/// Text as XML and HTML take it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Where a text is anchored.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A drawing; x grows to the right, y downwards, both in pixels. Classes are those of the page's style sheet.
pub struct Svg {
    text: String,
}

impl Svg {
    /// - `title`: what somebody hears who does not see it.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escaped(title);
        Self {
            text: format!(
                "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\
                 <title>{title}</title>\n"
            ),
        }
    }

    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, fill: Option<&str>) {
        let fill = fill.map(|fill| format!(" fill=\"{fill}\"")).unwrap_or_default();
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"{fill}/>"
        ));
    }

    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!("<polyline points=\"{}\" class=\"{class}\"/>", points.join(" ")));
    }

    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        self.push(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" class=\"{class}\"/>"));
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let (anchor, text) = (anchor.name(), escaped(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        ));
    }

    pub fn finish(self) -> String {
        self.text + "</svg>\n"
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{element}");
    }
}

/// A number near `wanted` that people like to read: 1, 2 or 5 times a power of ten.
pub fn round_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.max(1e-9).log10().floor());
    let nice = [1.0, 2.0, 5.0].into_iter().find(|nice| nice * power >= wanted);
    nice.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_an_axis_are_round() {
        for (wanted, step) in [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (7.0, 10.0), (240.0, 500.0)] {
            assert!((round_step(wanted) - step).abs() < 1e-9, "{wanted}: {}", round_step(wanted));
        }
    }

    #[test]
    fn text_is_never_taken_for_markup() {
        let mut svg = Svg::new(1.0, 1.0, "<a>");
        svg.text((0.0, 0.0), Anchor::Start, "x", "\"b\" & <script>");
        let text = svg.finish();
        assert!(!text.contains("<script>") && !text.contains("<a>") && text.contains("&lt;script&gt;"), "{text}");
    }
}
