//! Plots in SVG, plain enough to be read as text.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const COLOURS: [&str; 6] = ["#0b6e4f", "#c8553d", "#588b8b", "#f2a541", "#6d597a", "#999999"];

/// Groups of horizontal bars: each bar has a name, the same in every group.
pub fn bars(title: &str, unit: &str, groups: &[(String, Vec<(String, f64)>)]) -> String {
    let most = groups.iter().flat_map(|(_, bars)| bars).map(|(_, value)| *value).fold(0.0, f64::max);
    let room = WIDTH - LEFT - 90.0;
    let (mut y, mut body) = (52.0, String::new());
    for (group, bars) in groups {
        write!(body, r#"<text x="10" y="{y}" font-weight="bold">{}</text>"#, escaped(group)).ok();
        y += 8.0;
        for (place, (name, value)) in bars.iter().enumerate() {
            let colour = COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#000000");
            let long = if most > 0.0 { value / most * room } else { 0.0 };
            let base = y + 13.0;
            write!(body, r#"<text x="{}" y="{base}" text-anchor="end">{}</text>"#, LEFT - 6.0, escaped(name))
                .ok();
            write!(body, r#"<rect x="{LEFT}" y="{y}" width="{long:.1}" height="15" fill="{colour}"/>"#).ok();
            write!(body, r#"<text x="{:.1}" y="{base}">{value:.1}</text>"#, LEFT + long + 5.0).ok();
            body.push('\n');
            y += 20.0;
        }
        y += 24.0;
    }
    framed(title, unit, y, &body)
}

/// One line through points whose places are told as text, evenly apart.
pub fn line(title: &str, unit: &str, points: &[(String, f64)]) -> String {
    let most = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (top, height) = (60.0, 220.0);
    let apart = (WIDTH - 120.0) / f64::from(u32::try_from(points.len().max(2) - 1).unwrap_or(u32::MAX));
    let (mut x, mut path, mut body) = (60.0, String::new(), String::new());
    for (name, value) in points {
        let y = if most > 0.0 { top + height - value / most * height } else { top + height };
        write!(path, "{x:.1},{y:.1} ").ok();
        write!(body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{}"/>"#, COLOURS[0]).ok();
        write!(body, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{value:.1}</text>"#, y - 8.0).ok();
        write!(
            body,
            r#"<text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
            top + height + 22.0,
            escaped(name)
        )
        .ok();
        body.push('\n');
        x += apart;
    }
    write!(body, r#"<polyline points="{path}" fill="none" stroke="{}" stroke-width="2"/>"#, COLOURS[0]).ok();
    framed(title, unit, top + height + 40.0, &body)
}

fn framed(title: &str, unit: &str, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"16\">{} ({})</text>\n{body}\n</svg>\n",
        escaped(title),
        escaped(unit),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{bars, line};

    #[test]
    fn the_longest_bar_is_the_largest_value_and_text_is_escaped() {
        let svg =
            bars("a < b", "1/s", &[("8".to_owned(), vec![("x".to_owned(), 2.0), ("y".to_owned(), 4.0)])]);
        assert!(
            svg.contains("a &lt; b") && svg.contains(r#"width="240.0""#) && svg.contains(r#"width="480.0""#),
            "{svg}"
        );
    }

    #[test]
    fn a_line_of_nothing_is_no_error() {
        assert!(line("none", "ms", &[]).contains("polyline"));
    }
}
