//! The plot: a line for each case, with a point on a logarithmic axis of time.

use std::fmt::Write;

use crate::{
    measure::{Case, Kind, Work},
    table::shown,
};

const WIDTH: f64 = 920.0;
/// Where the axis begins and ends.
const AXIS: (f64, f64) = (330.0, 830.0);
const LINE: f64 = 19.0;

const STYLE: &str = r#"<style>
.vmffi-peers { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12.5px; max-width: 100%; }
.vmffi-peers .page { fill: #ffffff; }
.vmffi-peers text { fill: #1f2328; }
.vmffi-peers .name { text-anchor: end; fill: #59636e; }
.vmffi-peers .work { font-weight: 600; }
.vmffi-peers .tick { text-anchor: middle; fill: #59636e; }
.vmffi-peers line { stroke: #d0d7de; }
.vmffi-peers .ours { fill: #0a6cbd; font-weight: 600; }
.vmffi-peers .peer { fill: #bc4c00; }
.vmffi-peers .floor { fill: none; stroke: #6e7781; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
.vmffi-peers .page { fill: #0d1117; }
.vmffi-peers text { fill: #e6edf3; }
.vmffi-peers .name, .vmffi-peers .tick { fill: #9aa4af; }
.vmffi-peers line { stroke: #30363d; }
.vmffi-peers .ours { fill: #58a6ff; }
.vmffi-peers .peer { fill: #f0a060; }
.vmffi-peers .floor { stroke: #8b949e; } }
</style>"#;

pub fn svg(works: &[Work]) -> String {
    let lines: usize = works.iter().map(|work| work.cases.len() + 1).sum();
    let gaps = works.len() as f64 * 8.0;
    let bottom = 40.0 + lines as f64 * LINE + gaps;
    let medians = works.iter().flat_map(|work| &work.cases).map(Case::median);
    let (least, most) = medians.fold((1.0_f64, 1.0_f64), |(a, b), ns| (a.min(ns), b.max(ns)));
    let (least, most) = (least.log10().floor(), most.log10().ceil());
    let x = |ns: f64| AXIS.0 + (AXIS.1 - AXIS.0) * (ns.log10() - least) / (most - least);

    let mut svg = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text).and_then(|()| svg.write_str("\n")).expect("a string takes all");
    };
    add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="vmffi-peers" viewBox="0 0 {WIDTH} {:.0}" role="img" aria-labelledby="vmffi-peers-title">"#,
        bottom + 12.0,
    ));
    add(format_args!(
        r#"<title id="vmffi-peers-title">How long the same work takes through vmffi, through its peers, and at least</title>"#,
    ));
    add(format_args!("{STYLE}\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>"));
    for power in least as i32..=most as i32 {
        let ns = 10_f64.powi(power);
        let tick = match power {
            ..3 => format!("{ns} ns"),
            3..6 => format!("{} µs", ns / 1e3),
            _ => format!("{} ms", ns / 1e6),
        };
        let at = x(ns);
        add(format_args!(r#"<text class="tick" x="{at:.1}" y="18">{tick}</text>"#));
        add(format_args!(r#"<line x1="{at:.1}" y1="26" x2="{at:.1}" y2="{bottom:.0}"/>"#));
    }
    let mut y = 40.0;
    for work in works {
        add(format_args!(r#"<text class="work" x="12" y="{:.1}">{}</text>"#, y + 4.0, work.name));
        y += LINE;
        for case in &work.cases {
            let (class, r) = match case.kind {
                Kind::Ours => ("ours", 5.5),
                Kind::Peer => ("peer", 4.5),
                Kind::Floor => ("floor", 4.0),
            };
            let (ns, baseline) = (case.median(), y + 4.0);
            let (at, name) = (x(ns), case.name);
            let text = if case.kind == Kind::Ours { "ours" } else { "" };
            add(format_args!(
                r#"<text class="name {text}" x="{:.0}" y="{baseline:.1}">{name}</text>"#,
                AXIS.0 - 14.0,
            ));
            add(format_args!(r#"<circle class="{class}" cx="{at:.1}" cy="{y:.1}" r="{r}"/>"#));
            add(format_args!(
                r#"<text class="{text}" x="{:.1}" y="{baseline:.1}">{}</text>"#,
                at + 10.0,
                shown(ns),
            ));
            y += LINE;
        }
        y += 8.0;
    }
    add(format_args!("</svg>"));
    svg
}
