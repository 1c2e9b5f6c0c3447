//! Figures: how they are drawn from samples, held against goals, and shown. Measures nothing.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

/// Numbers of one kind, in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The sample below which this share of them lies (nearest rank).
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize - 1;
        sorted.get(rank).copied().unwrap_or(f64::NAN)
    }

    pub fn min(&self) -> f64 {
        self.at(0.0)
    }

    pub fn max(&self) -> f64 {
        self.at(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// On which side of its bound a figure is to be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Told for comparison.
    None,
}

/// One row of the closing table.
#[derive(Clone, Debug)]
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Goal,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { what: what.into(), value, unit, goal }
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            Goal::AtMost(bound) if self.value <= bound => "met",
            Goal::AtLeast(bound) if self.value >= bound => "met",
            Goal::AtMost(_) | Goal::AtLeast(_) => "MISSED",
            Goal::None => "",
        }
    }

    fn with_unit(&self, value: f64) -> String {
        let digits = match value.abs() {
            large if large >= 100.0 => 0,
            some if some >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.digits$} {}", self.unit)
    }

    fn goal_words(&self) -> String {
        match self.goal {
            Goal::AtMost(bound) => format!("at most {bound} {}", self.unit),
            Goal::AtLeast(bound) => format!("at least {bound} {}", self.unit),
            Goal::None => String::new(),
        }
    }
}

/// Where the time of a turn goes in repositories of one size.
pub struct Breakdown {
    pub files: usize,
    /// What happens, and its samples in ms.
    pub steps: Vec<(&'static str, Samples)>,
    /// What parts of the steps take without agentpool.
    pub plain: Vec<(&'static str, Samples)>,
}

/// Everything that a run has found.
#[derive(Default)]
pub struct Report {
    pub figures: Vec<Figure>,
    pub breakdowns: Vec<Breakdown>,
}

impl Report {
    pub fn show(&self, machine: &str) {
        println!("{machine}\n");
        let rows = self.figures.iter().map(|figure| {
            [
                figure.what.clone(),
                figure.with_unit(figure.value),
                figure.goal_words(),
                figure.verdict().to_owned(),
            ]
        });
        println!("{}\n", table(&["WHAT", "FIGURE", "GOAL", "VERDICT"], rows));
        self.show_breakdowns();
        let missed = self.figures.iter().filter(|figure| figure.verdict() == "MISSED").count();
        match missed {
            0 => println!("\nevery goal is met"),
            missed => println!("\n{missed} goals are MISSED"),
        }
    }

    fn show_breakdowns(&self) {
        let Some(first) = self.breakdowns.first() else { return };
        println!("Where the time of a warm turn goes (medians, and their share of the sum)");
        let mut header = vec!["STEP".to_owned()];
        header.extend(self.breakdowns.iter().map(|of| format!("{} FILES", of.files)));
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let steps = first.steps.iter().enumerate().map(|(step, (name, _))| {
            let cells = self.breakdowns.iter().map(|of| {
                let sum: f64 = of.steps.iter().map(|(_, samples)| samples.median()).sum();
                let median = of.steps[step].1.median();
                format!("{median:.1} ms  {:.0} %", 100.0 * median / sum)
            });
            [(*name).to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
        });
        let plain = first.plain.iter().enumerate().map(|(step, (name, _))| {
            let cells = self.breakdowns.iter().map(|of| format!("{:.1} ms", of.plain[step].1.median()));
            [(*name).to_owned()].into_iter().chain(cells).collect()
        });
        let rows = steps.chain(plain);
        println!("{}", table(&header, rows));
    }

    pub fn as_json(&self, machine: &str) -> Value {
        let figures = self.figures.iter().map(|figure| {
            let (bound, side) = match figure.goal {
                Goal::AtMost(bound) => (Some(bound), Some("at most")),
                Goal::AtLeast(bound) => (Some(bound), Some("at least")),
                Goal::None => (None, None),
            };
            json!({
                "what": figure.what, "value": figure.value, "unit": figure.unit, "goal": bound, "side": side,
                "met": side.map(|_| figure.verdict() == "met"),
            })
        });
        let breakdowns = self.breakdowns.iter().map(|of| {
            let steps = of.steps.iter().chain(&of.plain).map(|(step, samples)| {
                json!({"step": step, "median_ms": samples.median(), "p95_ms": samples.at(0.95)})
            });
            json!({"files": of.files, "steps": steps.collect::<Vec<_>>()})
        });
        json!({
            "machine": machine,
            "figures": figures.collect::<Vec<_>>(),
            "where_the_time_goes": breakdowns.collect::<Vec<_>>(),
        })
    }
}

fn table<R: IntoIterator<Item = String>>(header: &[&str], rows: impl IntoIterator<Item = R>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    table
}
