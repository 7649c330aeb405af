//! How figures move with the number of rows, and with the number of callers.
//!
//! A chart is a workload on a store, along one axis while the other number stays: its points are medians over the rounds.
//!
//! Always true: a chart has at least two places on its axis; what was not measured is a gap.

use esker_bench::{
    figures::short,
    sample::{Row, Scale},
};

use super::goals::called;
use crate::{
    figure::Figure,
    table::{engines, figure_of, sheet},
    workload::Workload,
};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Callers,
}

/// One workload on one store.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) figure: Figure,
    /// A line an engine, ours first: places on the axis, ascending, and figures.
    pub(crate) lines: Vec<(String, Vec<(u64, f64)>)>,
}

impl Axis {
    pub(crate) const ALL: [Self; 2] = [Self::Rows, Self::Callers];

    /// Its file and what stands below it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Callers => "callers",
        }
    }

    /// A place on it, for people.
    pub(crate) fn write(self, place: f64) -> String {
        match self {
            Self::Rows => short(place),
            Self::Callers => format!("{place:.0}"),
        }
    }

    /// Where `scale` lies on it, if the number beside is that of `base`.
    fn place(self, scale: Scale, base: Scale) -> Option<u64> {
        match self {
            Self::Rows => (scale.clients == base.clients).then_some(scale.rows),
            Self::Callers => (scale.rows == base.rows).then_some(scale.clients),
        }
    }
}

/// All charts along `axis`, in the order the workloads were measured first.
pub(crate) fn charts(rows: &[Row<'_>], base: Scale, axis: Axis) -> Vec<Chart> {
    let mut subjects: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        // What is no workload by itself, as the settling after a fill, has no picture.
        if Workload::named(row.workload).is_some() && !subjects.contains(&(row.workload, row.store)) {
            subjects.push((row.workload, row.store));
        }
    }
    let charts = subjects.into_iter().filter_map(|(workload, store)| {
        let same = rows.iter().filter(|row| row.workload == workload && row.store == store);
        let mut placed: Vec<(u64, &Row<'_>)> =
            same.filter_map(|row| Some((axis.place(row.scale?, base)?, row))).collect();
        placed.sort_by_key(|(place, _)| *place);
        let all: Vec<&Row<'_>> = placed.iter().map(|(_, row)| *row).collect();
        let figure = figure_of(workload);
        let lines = engines(&all).into_iter().map(|engine| {
            let point = |(place, row): &(u64, &Row<'_>)| Some((*place, figure.spread(row, engine)?.median));
            (engine.to_owned(), placed.iter().filter_map(point).collect())
        });
        let lines: Vec<(String, Vec<(u64, f64)>)> = lines.collect();
        let chart = Chart { title: format!("{workload} on {store}"), figure, lines };
        (chart.places().len() > 1).then_some(chart)
    });
    charts.collect()
}

impl Chart {
    /// All places that some line has a point at, ascending.
    pub(crate) fn places(&self) -> Vec<u64> {
        let mut places: Vec<u64> =
            self.lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.0)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// The points of all `charts`, a line an engine.
pub(crate) fn table(charts: &[Chart], axis: Axis) -> String {
    let mut places: Vec<u64> = charts.iter().flat_map(Chart::places).collect();
    places.sort_unstable();
    places.dedup();
    let mut head = vec![format!("workload, by {}", axis.name()), "engine".to_owned()];
    head.extend(places.iter().map(|place| axis.write(*place as f64)));
    let lines = charts.iter().flat_map(|chart| {
        let places = &places;
        chart.lines.iter().map(move |(engine, points)| {
            let mut line =
                vec![format!("{}, {}", chart.title, chart.figure.name()), called(engine).to_owned()];
            line.extend(places.iter().map(|place| {
                let point = points.iter().find(|(at, _)| at == place);
                point.map_or("–".into(), |(_, value)| chart.figure.write(*value))
            }));
            line
        })
    });
    sheet(&head, lines)
}

#[cfg(test)]
mod tests {
    use esker_bench::sample::{Sample, Samples};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_chart_has_what_was_measured_beside_one_number_that_stays() {
        let sample = |engine: &str, rows, clients, rate| Sample {
            engine: engine.into(),
            store: "memory".into(),
            workload: "read-random".into(),
            ops_per_second: rate,
            scale: Some(Scale { rows, clients }),
            ..Sample::default()
        };
        let samples = vec![
            sample("fjall", 1000, 2, 5.0),
            sample("esker", 10_000, 2, 2000.0),
            sample("esker", 1000, 2, 1000.0),
            sample("esker", 1000, 2, 3000.0),
            sample("esker", 10_000, 16, 9.0),
            sample("esker", 1000, 16, 7.0),
            Sample { workload: "fill-settle".into(), ..sample("esker", 1000, 2, 7.0) },
            Sample { workload: "fill-settle".into(), ..sample("esker", 10_000, 2, 7.0) },
        ];
        let samples = Samples { format: 1, setup: Value::Null, samples, skipped: Vec::new() };
        let base = Scale { rows: 1000, clients: 2 };
        let by_rows = charts(&samples.rows(), base, Axis::Rows);
        assert_eq!(by_rows.len(), 1, "the settling after a fill is no chart");
        assert_eq!(by_rows[0].lines[0], ("esker".into(), vec![(1000, 2000.0), (10_000, 2000.0)]));
        assert_eq!(by_rows[0].lines[1], ("fjall".into(), vec![(1000, 5.0)]));
        let by_callers = charts(&samples.rows(), base, Axis::Callers);
        assert_eq!(by_callers[0].lines[0].1, [(2, 2000.0), (16, 7.0)]);
        let text = table(&by_rows, Axis::Rows);
        assert!(text.contains("| 1000 | 10.0 k |") && text.contains("| fjall | 5.00 | – |"), "{text}");
        let alone = Scale { rows: 7, clients: 7 };
        assert!(charts(&samples.rows(), alone, Axis::Rows).is_empty());
    }
}
