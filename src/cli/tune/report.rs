//! A profile as one page with plots: no script, and nothing that is loaded from elsewhere. The page is HTML and XML alike.

use indicatif::BinaryBytes;

use super::profile::{Choice, Profile};
use super::search::{Setting, Tried};
use super::svg::{Anchor, Svg, escaped, round_step};
use super::{automatic, briefly, in_words, milliseconds, rate, size, verdict, why_it_ended, with_interval};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .3rem}p{margin:.3rem 0 .8rem;color:#4a5868}
.cards{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}
.card{flex:1 1 16rem;border:1px solid #d5dce4;border-left:6px solid #8a97a6;border-radius:6px;padding:.6rem .9rem}
.card.chosen{border-left-color:#d9480f}.card.second{border-left-color:#1864ab}.card b{display:block;font-size:1.3rem}
.card span{color:#4a5868;font-size:.9rem;display:block}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
th{border-bottom:1px solid #8a97a6}td.n,th.n{text-align:right;white-space:nowrap}tr.chosen td{font-weight:600;color:#d9480f}
svg{display:block;max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#1d2733}
svg .dim{fill:#6b7886}svg .light{fill:#fff}svg .axis{stroke:#8a97a6}svg .grid{stroke:#e6eaef}
svg .empty{fill:#f3f5f7}svg .out{fill:#e6eaef}svg .frame-chosen{fill:none;stroke:#d9480f;stroke-width:3}
svg .frame-second{fill:none;stroke:#1864ab;stroke-width:3;stroke-dasharray:5 3}
svg .dot{fill:#495867}svg .dot-chosen{fill:#d9480f}svg .dot-second{fill:#1864ab}svg .sample{fill:#8a97a6;opacity:.55}
svg .whisker{stroke:#495867;stroke-width:2}svg .whisker-chosen{stroke:#d9480f;stroke-width:2}
svg .own{stroke:#2b8a3e;stroke-width:1.5;stroke-dasharray:6 4}svg .whisker-second{stroke:#1864ab;stroke-width:2}svg .curve{fill:none;stroke:#8a97a6;stroke-width:1.5}
svg .bar{fill:#9db2c6}svg .bar-chosen{fill:#d9480f}svg .bar-spent{fill:#1864ab}
";

const WIDTH: f64 = 900.0;

/// The page.
pub fn page(profile: &Profile) -> String {
    let title = format!("haul tune: {}", profile.endpoint);
    let when = format!("{}, {}, haul {}", profile.machine, profile.date, profile.haul);
    let sections = [
        cards(profile),
        section("The surface", &surface_words(profile), &surface(profile)),
        section("Parts in flight", CURVE_WORDS, &curve(profile)),
        section("Every setting that was tried", INTERVALS_WORDS, &intervals(profile)),
        section("What holds it back", BOUNDS_WORDS, &bounds(profile)),
        section("What it cost", &cost_words(profile), &cost(profile)),
        section("All samples", SAMPLES_WORDS, &samples(profile)),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n<title>{title}</title>\n<style>\n{STYLE}</style></head>\n\
         <body>\n<h1>{title}</h1>\n<p>{when}</p>\n{sections}</body></html>\n",
        title = escaped(&title),
        when = escaped(&when),
        sections = sections.concat()
    )
}

fn section(title: &str, words: &str, content: &str) -> String {
    format!("<h2>{}</h2>\n<p>{}</p>\n{content}", escaped(title), escaped(words))
}

/// How something is marked wherever it occurs.
fn mark(profile: &Profile, setting: &Setting) -> &'static str {
    match () {
        () if *setting == profile.chosen.setting => "-chosen",
        () if profile.runner_up.as_ref().is_some_and(|second| second.setting == *setting) => "-second",
        () => "",
    }
}

fn cards(profile: &Profile) -> String {
    let card = |class: &str, title: &str, choice: &Choice| {
        let (carries, setting) = (escaped(&with_interval(choice)), escaped(&in_words(&choice.setting)));
        let (carries, interval) = carries.split_once(" (").map_or((&*carries, ""), |(mean, rest)| (mean, rest));
        let interval = interval.trim_end_matches(')');
        format!(
            "<div class=\"card {class}\">{title}<b>{carries}</b><span>{interval}</span><span>{setting}</span></div>\n"
        )
    };
    let mut cards = card("chosen", "The choice", &profile.chosen);
    if let Some(second) = &profile.runner_up {
        cards += &card("second", "The runner-up", second);
    }
    let shown = [Some(profile.chosen.setting), profile.runner_up.as_ref().map(|second| second.setting)];
    if let Some(own) = automatic(profile).filter(|own| !shown.contains(&Some(own.setting))) {
        cards += &card("own", "haul without a profile", &own);
    }
    let words = verdict(profile);
    let words = if words.is_empty() { words } else { format!("<p>The choice: {}.</p>\n", escaped(&words)) };
    format!("<div class=\"cards\">\n{cards}</div>\n{words}")
}

fn mean(tried: &Tried) -> f64 {
    tried.estimate().map_or(0.0, |found| found.mean)
}

/// The best mean of all; plots end there.
fn top(profile: &Profile) -> f64 {
    profile.tried.iter().map(mean).fold(1.0, f64::max)
}

/// The distinct values of something, in ascending order.
fn values<T: Ord>(profile: &Profile, of: impl Fn(&Setting) -> Option<T>) -> Vec<T> {
    let mut all: Vec<T> = profile.tried.iter().filter_map(|tried| of(&tried.setting)).collect();
    all.sort();
    all.dedup();
    all
}

fn surface_words(profile: &Profile) -> String {
    let choice = match profile.chosen.setting.parallel {
        Some(_) => "Solid frame: the choice.",
        None => "The choice, haul without a profile, finds its own place and has none here.",
    };
    format!(
        "Bytes per second by parts in flight and part length: the best reader, chunks and threads that were tried there. \
         {choice} Dashed frame: the runner-up. Empty fields were not tried: the search saw no need, or an \
         upload of {} has not so many parts.",
        size(profile.sample_bytes)
    )
}

fn surface(profile: &Profile) -> String {
    let columns = values(profile, |setting| setting.parallel);
    let rows = values(profile, |setting| setting.part_bytes);
    let (left, above, cell) = (90.0, 10.0, (76.0, 40.0));
    let (width, height) = (left + cell.0 * columns.len() as f64 + 10.0, above + cell.1 * rows.len() as f64 + 50.0);
    let mut svg = Svg::new(width.max(WIDTH / 2.0), height, "Rate by parts in flight and part length");
    let x = |column: usize| left + cell.0 * column as f64;
    let y = |row: usize| above + cell.1 * (rows.len() - 1 - row) as f64;
    let mut frames = Vec::new();
    for (row, bytes) in rows.iter().enumerate() {
        svg.text((left - 8.0, y(row) + 25.0), Anchor::End, "", &size(*bytes));
        for (column, parallel) in columns.iter().enumerate() {
            let (at, size) = ((x(column) + 1.0, y(row) + 1.0), (cell.0 - 2.0, cell.1 - 2.0));
            let there =
                |tried: &&Tried| (tried.setting.parallel, tried.setting.part_bytes) == (Some(*parallel), Some(*bytes));
            let best = profile.tried.iter().filter(there).max_by(|a, b| mean(a).total_cmp(&mean(b)));
            let Some(best) = best.filter(|best| mean(best) > 0.0) else {
                svg.rect(at, size, "empty", None);
                continue;
            };
            let share = mean(best) / top(profile);
            svg.rect(at, size, "cell", Some(&shade(share)));
            let class = if share > 0.55 { "light" } else { "" };
            svg.text((x(column) + cell.0 / 2.0, y(row) + 25.0), Anchor::Middle, class, &short(mean(best)));
            let marks = profile.tried.iter().filter(there).map(|tried| mark(profile, &tried.setting));
            frames.extend(marks.filter(|mark| !mark.is_empty()).map(|mark| (at, size, mark)));
        }
    }
    // The choice on top, where both stand in one field.
    frames.sort_by_key(|(_, _, mark)| *mark == "-chosen");
    for (at, size, mark) in frames {
        svg.rect(at, size, &format!("frame{mark}"), None);
    }
    let below = above + cell.1 * rows.len() as f64;
    for (column, parallel) in columns.iter().enumerate() {
        svg.text((x(column) + cell.0 / 2.0, below + 18.0), Anchor::Middle, "", &parallel.to_string());
    }
    let middle = left + cell.0 * columns.len() as f64 / 2.0;
    svg.text((middle, below + 38.0), Anchor::Middle, "dim", "parts in flight; figures in MB/s");
    svg.finish()
}

/// From nearly white to dark blue.
fn shade(share: f64) -> String {
    let share = share.clamp(0.0, 1.0).powf(1.5);
    let mix = |light: f64, dark: f64| (light + (dark - light) * share).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(232.0, 20.0), mix(240.0, 66.0), mix(248.0, 120.0))
}

/// MB/s without the unit.
fn short(bytes_per_second: f64) -> String {
    let megabytes = bytes_per_second / 1e6;
    if megabytes < 100.0 { format!("{megabytes:.1}") } else { format!("{megabytes:.0}") }
}

const CURVE_WORDS: &str = "Each point is a setting, with its 95 % confidence interval; the line joins the best ones. Where it \
    stops to rise, more connections carry nothing more. Dashed: haul without a profile.";

fn curve(profile: &Profile) -> String {
    let columns = values(profile, |setting| setting.parallel);
    let (left, above, width, height) = (95.0, 14.0, WIDTH - 115.0, 280.0);
    let high = profile.tried.iter().filter_map(Tried::estimate).filter(|e| e.half_width.is_finite());
    let top = high.map(|e| e.high().min(2.0 * e.mean)).fold(top(profile), f64::max) * 1.05;
    let mut svg = Svg::new(WIDTH, above + height + 50.0, "Rate by parts in flight");
    let x = |parallel: u32| {
        let column = columns.iter().position(|n| *n == parallel).unwrap_or_default();
        left + width * (column as f64 + 0.5) / columns.len().max(1) as f64
    };
    let y = |rate: f64| above + height * (1.0 - rate.clamp(0.0, top) / top);
    let step = round_step(top / 5.0);
    for tick in (0..).map(|i| f64::from(i) * step).take_while(|tick| *tick <= top) {
        svg.line((left, y(tick)), (left + width, y(tick)), if tick == 0.0 { "axis" } else { "grid" });
        svg.text((left - 8.0, y(tick) + 4.0), Anchor::End, "dim", &rate(tick));
    }
    let best = |parallel: &u32| {
        let there = profile.tried.iter().filter(|tried| tried.setting.parallel == Some(*parallel));
        there.map(mean).fold(0.0, f64::max)
    };
    let line: Vec<_> = columns.iter().map(|n| (x(*n), y(best(n)))).collect();
    svg.polyline(&line, "curve");
    if let Some(own) = automatic(profile) {
        let y = y(own.bytes_per_second);
        svg.line((left, y), (left + width, y), "own");
    }
    // The choice on top.
    let mut order: Vec<_> = profile.tried.iter().collect();
    order.sort_by_key(|tried| mark(profile, &tried.setting) == "-chosen");
    for tried in order {
        let (Some(parallel), Some(found)) = (tried.setting.parallel, tried.estimate()) else { continue };
        let mark = mark(profile, &tried.setting);
        if found.half_width.is_finite() {
            let (low, high) = (y(found.low()), y(found.high()));
            svg.line((x(parallel), low), (x(parallel), high), &format!("whisker{mark}"));
        }
        svg.circle((x(parallel), y(found.mean)), if mark.is_empty() { 3.5 } else { 6.0 }, &format!("dot{mark}"));
    }
    for parallel in &columns {
        svg.text((x(*parallel), above + height + 18.0), Anchor::Middle, "", &parallel.to_string());
    }
    svg.text((left + width / 2.0, above + height + 40.0), Anchor::Middle, "dim", "parts in flight");
    svg.finish()
}

const INTERVALS_WORDS: &str = "The dark dot is the mean, the bar its 95 % confidence interval, the pale dots are the samples. \
    Settings whose interval lies left of the best one's were dropped; grey ones were so slow that they were cut off.";

fn intervals(profile: &Profile) -> String {
    let mut order: Vec<&Tried> = profile.tried.iter().filter(|tried| mean(tried) > 0.0).collect();
    order
        .sort_by(|a, b| (a.is_out(), mean(b)).partial_cmp(&(b.is_out(), mean(a))).unwrap_or(std::cmp::Ordering::Equal));
    let (left, above, width, row) = (330.0, 4.0, WIDTH - 350.0, 21.0);
    let height = row * order.len() as f64;
    let top = order.iter().flat_map(|tried| &tried.samples).copied().fold(top(profile), f64::max) * 1.02;
    let mut svg = Svg::new(WIDTH, above + height + 30.0, "Settings with their intervals");
    let x = |rate: f64| left + width * rate.clamp(0.0, top) / top;
    let step = round_step(top / 5.0);
    for tick in (0..).map(|i| f64::from(i) * step).take_while(|tick| *tick <= top) {
        svg.line((x(tick), above), (x(tick), above + height), if tick == 0.0 { "axis" } else { "grid" });
        svg.text((x(tick), above + height + 18.0), Anchor::Middle, "dim", &rate(tick));
    }
    for (i, tried) in order.into_iter().enumerate() {
        let y = above + row * (i as f64 + 0.5);
        let mark = mark(profile, &tried.setting);
        svg.text(
            (left - 10.0, y + 4.0),
            Anchor::End,
            if tried.is_out() { "dim" } else { "" },
            &briefly(&tried.setting),
        );
        for sample in &tried.samples {
            svg.circle((x(*sample), y), 3.0, "sample");
        }
        let Some(found) = tried.estimate() else { continue };
        if found.half_width.is_finite() && !tried.is_out() {
            svg.line((x(found.low()), y), (x(found.high()), y), &format!("whisker{mark}"));
        }
        let class = if tried.is_out() { "sample".to_owned() } else { format!("dot{mark}") };
        svg.circle((x(found.mean), y), 4.5, &class);
    }
    svg.finish()
}

const BOUNDS_WORDS: &str = "What each thing does on its own, on a logarithmic scale. Checksums and encryption are of one core; \
    haul uses several. The disk was read in order, without the page cache as far as it could be emptied.";

fn bounds(profile: &Profile) -> String {
    let survey = &profile.survey;
    let rows = [
        ("checksums (CRC64), one core", survey.crc64, ""),
        ("encryption (AES-256-GCM), one core", survey.encryption, ""),
        ("disk", survey.disk, ""),
        ("one connection", survey.one_connection, ""),
        ("the choice", profile.chosen.bytes_per_second, "-chosen"),
    ];
    let (left, above, width, row) = (250.0, 4.0, WIDTH - 350.0, 26.0);
    let highest = rows.iter().map(|row| row.1).fold(1.0, f64::max).log10();
    let lowest = rows.iter().map(|row| row.1).filter(|rate| *rate > 0.0).fold(f64::MAX, f64::min).log10().floor() - 0.3;
    let mut svg = Svg::new(WIDTH, above + row * rows.len() as f64 + 6.0, "What single things can do");
    for (i, (name, value, mark)) in rows.iter().enumerate() {
        let y = above + row * i as f64;
        let length = width * ((value.max(1.0).log10() - lowest) / (highest - lowest).max(0.1)).clamp(0.0, 1.0);
        svg.text((left - 10.0, y + 16.0), Anchor::End, "", name);
        svg.rect((left, y + 4.0), (length, row - 8.0), &format!("bar{mark}"), None);
        svg.text((left + length + 8.0, y + 16.0), Anchor::Start, "", &rate(*value));
    }
    let line = format!(
        "<p>An answer took {} on a connection that was there; a connection with its name, TCP and TLS took {}.</p>\n",
        milliseconds(survey.latency),
        milliseconds(survey.connection)
    );
    svg.finish() + &line
}

fn cost_words(profile: &Profile) -> String {
    let cost = &profile.cost;
    format!(
        "{} uploads of {} or less, in {:.1} s. The search ended since {}.",
        cost.uploads,
        size(profile.sample_bytes),
        cost.seconds,
        why_it_ended(cost.ended)
    )
}

fn cost(profile: &Profile) -> String {
    let cost = &profile.cost;
    let bytes = (cost.bytes as f64, cost.budget_bytes as f64, BinaryBytes(cost.bytes), BinaryBytes(cost.budget_bytes));
    let rows = [
        ("bytes sent", bytes.0 / bytes.1, format!("{} of {}", bytes.2, bytes.3)),
        ("time", cost.seconds / cost.budget_seconds, format!("{:.1} of {:.0} s", cost.seconds, cost.budget_seconds)),
    ];
    let (left, width, row) = (250.0, WIDTH - 420.0, 26.0);
    let mut svg = Svg::new(WIDTH, row * rows.len() as f64 + 6.0, "Budget spent");
    for (i, (name, share, words)) in rows.iter().enumerate() {
        let y = row * i as f64;
        svg.text((left - 10.0, y + 16.0), Anchor::End, "", name);
        svg.rect((left, y + 4.0), (width, row - 8.0), "out", None);
        svg.rect((left, y + 4.0), (width * share.clamp(0.0, 1.0), row - 8.0), "bar-spent", None);
        svg.text((left + width + 8.0, y + 16.0), Anchor::Start, "", words);
    }
    svg.finish()
}

const SAMPLES_WORDS: &str = "In MB/s, in the order in which the settings were first tried. The warm-up opens connections and does \
    not count.";

fn samples(profile: &Profile) -> String {
    let mut rows = String::from(
        "<table>\n<tr><th>setting</th><th class=\"n\">mean</th><th class=\"n\">± 95 %</th><th class=\"n\">warm-up</th>\
         <th>samples</th></tr>\n",
    );
    for tried in &profile.tried {
        let class = if mark(profile, &tried.setting) == "-chosen" { " class=\"chosen\"" } else { "" };
        let found = tried.estimate();
        let number = |figure: Option<f64>| figure.filter(|n| n.is_finite()).map(short).unwrap_or_default();
        let all: Vec<_> = tried.samples.iter().map(|sample| short(*sample)).collect();
        let cut = if tried.cut > 0 { format!(" ({} cut off)", tried.cut) } else { String::new() };
        rows += &format!(
            "<tr{class}><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}{cut}</td></tr>\n",
            escaped(&briefly(&tried.setting)),
            number(found.map(|e| e.mean)),
            number(found.map(|e| e.half_width)),
            number(tried.warm_up),
            all.join(", "),
        );
    }
    rows + "</table>\n"
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;
    use quick_xml::events::Event;

    use super::super::profile::tests::profile;
    use super::*;

    fn elements(page: &str) -> Vec<String> {
        let mut reader = Reader::from_str(page);
        reader.config_mut().check_end_names = true;
        let mut names = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => return names,
                Event::Start(e) | Event::Empty(e) => names.push(e.name().as_ref().to_owned()),
                _ => {}
            }
        }
    }

    #[test]
    fn the_page_is_well_formed_and_loads_nothing() {
        let mut hostile = profile();
        hostile.endpoint = "http://x/<script src=\"http://evil/\">&".into();
        hostile.machine = "</title><img src=x>".into();
        for profile in [profile(), hostile] {
            let page = page(&profile);
            let names = elements(&page);
            assert_eq!(names.iter().filter(|name| *name == "svg").count(), 5);
            for loads in ["script", "img", "link", "iframe", "object", "image", "use"] {
                assert!(!names.iter().any(|name| name == loads), "{loads}");
            }
            for loads in ["url(", "@import", "src=\"h", "href="] {
                assert!(!page.replace("&quot;", "").contains(loads), "{loads}");
            }
        }
    }

    #[test]
    fn the_page_tells_the_choice_the_runner_up_and_what_it_cost() {
        let page = page(&profile());
        for words in [
            "16 in flight, parts of 1 MiB, reader auto, 2 threads",
            "16 in flight, parts of 1 MiB, reader uring, 2 threads",
            "161.0 MB/s",
            "1.00 GiB of 8.00 GiB",
            "12.5 of 120 s",
            "17 uploads",
            "class=\"frame-chosen\"",
            "class=\"frame-second\"",
        ] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn a_profile_of_one_sample_makes_a_page_too() {
        let mut small = profile();
        small.tried.truncate(1);
        small.tried[0].samples.truncate(1);
        small.chosen = Choice::of(&small.tried[0]).unwrap();
        small.runner_up = None;
        let page = page(&small);
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
        elements(&page);
    }
}
