//! Drawing a snapshot as tables.

use std::fmt;
use std::time::Duration;

use crate::error::printable;
use crate::process::Backend;
use crate::queue::{QueueKind, QueueStatus};
use crate::tree::{ProcessInfo, ProcessState, ProcessTree};

impl fmt::Display for ProcessTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            TextTable::new(["process", "pid", "state", "up", "cpu", "memory", "worker"], 1);
        draw(&mut table, &self.root, "", "");
        table.fmt(f)?;
        let queues: Vec<&QueueStatus> =
            self.queues.iter().filter(|queue| queue.kind() != QueueKind::Internal).collect();
        if !queues.is_empty() {
            let mut table =
                TextTable::new(["queue", "items", "bound", "not done", "dead", "holders"], 1);
            queues.into_iter().for_each(|queue| table.row(row_of_queue(queue)));
            write!(f, "\n\n{table}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProcessState::Running => "running",
            ProcessState::Sleeping => "sleeping",
            ProcessState::Blocked => "blocked",
            ProcessState::Stopped => "stopped",
            ProcessState::Ended => "ended",
            ProcessState::Unknown => "?",
        })
    }
}

/// Adds a process and its descendants. `first` goes before its own name, `rest` before those of the
/// processes below.
fn draw(table: &mut TextTable<7>, process: &ProcessInfo, first: &str, rest: &str) {
    table.row(row_of_process(process, first));
    let last = process.children().len().saturating_sub(1);
    for (n, child) in process.children().iter().enumerate() {
        let (branch, below) = if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(table, child, &format!("{rest}{branch}"), &format!("{rest}{below}"));
    }
}

fn row_of_process(process: &ProcessInfo, branch: &str) -> [String; 7] {
    let name = format!("{branch}{}", printable::name(process.name()));
    if process.backend() == Backend::Inline {
        let nothing = String::new;
        return [
            name,
            nothing(),
            "thread".to_owned(),
            nothing(),
            nothing(),
            nothing(),
            about(process),
        ];
    }
    [
        name,
        process.pid().to_string(),
        process.state().to_string(),
        duration(process.uptime()),
        duration(process.cpu_time()),
        bytes(process.memory()),
        about(process),
    ]
}

/// Describes the worker, and anything unusual about the process.
fn about(process: &ProcessInfo) -> String {
    let worker = match process.actor() {
        Some(actor) => Some(format!("{} (actor)", short_type(actor))),
        None => process.worker().map(short_type),
    };
    let restarts = process.generation().filter(|&generation| generation > 0);
    let words = [
        worker,
        process.is_program().then(|| "(program)".to_owned()),
        (process.is_daemon() == Some(true)).then(|| "(daemon)".to_owned()),
        process.is_detached().then(|| "(detached)".to_owned()),
        restarts.map(|restarts| format!("(restarts: {restarts})")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn row_of_queue(queue: &QueueStatus) -> [String; 6] {
    let mut holders: Vec<String> = queue.holders().iter().map(u32::to_string).collect();
    holders.extend((queue.in_flight() > 0).then(|| format!("({} under way)", queue.in_flight())));
    holders.extend(queue.is_closed().then(|| "(closed)".to_owned()));
    [
        match queue.name() {
            _ if queue.kind() == QueueKind::Mailbox => "(mailbox)".to_owned(),
            Some(name) => format!("{} ({})", printable::name(name), short_type(queue.item())),
            None => short_type(queue.item()),
        },
        queue.len().to_string(),
        queue.capacity().map_or_else(|| "none".to_owned(), |capacity| capacity.to_string()),
        queue.unfinished().map_or_else(String::new, |unfinished| unfinished.to_string()),
        queue.dead_letters().to_string(),
        holders.join(" "),
    ]
}

/// A table whose columns are as wide as their widest cell. The first `words` columns and the last
/// one are aligned to the left, the others to the right.
struct TextTable<const N: usize> {
    rows: Vec<[String; N]>,
    words: usize,
}

impl<const N: usize> TextTable<N> {
    fn new(head: [&str; N], words: usize) -> TextTable<N> {
        TextTable { rows: vec![head.map(str::to_owned)], words }
    }

    fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for TextTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for (n, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (text, width)) in row.iter().zip(widths).enumerate() {
                let words = column < self.words || column == N - 1;
                line +=
                    &if words { format!("{text:<width$}  ") } else { format!("{text:>width$}  ") };
            }
            let end = if n + 1 == self.rows.len() { "" } else { "\n" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Removes the paths from a type name: `app::Sum<f32>` becomes `Sum<f32>`.
fn short_type(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for c in name.chars().chain(['\0']) {
        if c.is_alphanumeric() || c == '_' || c == ':' {
            word.push(c);
        } else {
            short += word.rsplit("::").next().unwrap_or_default();
            word.clear();
            short.extend((c != '\0').then_some(c));
        }
    }
    short
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.2}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn bytes(count: u64) -> String {
    let mib = count as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Stat;

    #[test]
    fn words() {
        assert_eq!(
            short_type("app::jobs::Sum<core::option::Option<f32>, [u8; 3]>"),
            "Sum<Option<f32>, [u8; 3]>"
        );
        assert_eq!(short_type("u64"), "u64");
        assert_eq!(duration(Duration::from_millis(1234)), "1.23s");
        assert_eq!(duration(Duration::from_secs(62)), "1m02s");
        assert_eq!(duration(Duration::from_secs(3 * 3600 + 5 * 60)), "3h05m");
        assert_eq!(duration(Duration::from_secs(50 * 3600)), "2d02h");
        assert_eq!(
            (bytes(1_572_864), bytes(3 << 30)),
            ("1.5 MiB".to_owned(), "3.0 GiB".to_owned())
        );
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(["name", "n", "rest"], 1);
        table.row(["└─ ä".to_owned(), "100".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "name    n  rest\n└─ ä  100");
    }

    #[test]
    fn branches_lead_to_each_process() {
        let process = |name: &str, children: Vec<ProcessInfo>| {
            let own = Stat::of(std::process::id()).unwrap();
            let name = name.to_owned();
            ProcessInfo::of(u32::MAX, Some(&Stat { name, ..own })).with_children(children)
        };
        let (a, c) = (process("a", vec![process("b", vec![])]), process("c", vec![]));
        let root = process("top", vec![a, c]);
        let queues = Vec::new();
        let drawn = ProcessTree { root, queues }.to_string();
        let pid = u32::MAX.to_string();
        let names = drawn.lines().skip(1);
        let names: Vec<&str> =
            names.map(|line| line.split(&pid).next().unwrap().trim_end()).collect();
        assert_eq!(names, ["top", "├─ a", "│  └─ b", "└─ c"]);
    }

    /// Its path begins with this crate's name, like that of any type in this module.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Parcel;

    #[test]
    fn a_queue_is_shown_whatever_the_path_of_its_items() {
        let queue = crate::Queue::<Parcel>::unbounded().unwrap();
        let drawn = crate::tree().to_string();
        assert!(drawn.contains("\nParcel"), "{drawn}");
        drop(queue);
    }
}
