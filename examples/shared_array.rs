//! A matrix in shared memory, used by several processes as an `ndarray` view without a copy, and
//! for comparison a matrix that is sent to them. In Python: `shared_memory` and
//! `numpy.ndarray(buffer=..)`.
//!
//! `cargo run --release --example shared_array -- --times` prints how long each takes.

use std::error::Error;
use std::ops::Range;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};
use offspring::sync::RwLock;

const ROWS: usize = 4000;
const COLUMNS: usize = 1000;
const PROCESSES: usize = 2;

/// Returns the column sums of some rows, reading them in place.
#[offspring::worker]
fn sums(matrix: RwLock<[f64]>, rows: Range<usize>) -> Vec<f64> {
    let guard = matrix.read().expect("no process dies with the lock");
    let view =
        ArrayView2::from_shape((ROWS, COLUMNS), &guard).expect("the lock holds the whole matrix");
    view.slice(s![rows, ..]).sum_axis(Axis(0)).to_vec()
}

/// Subtracts its mean from each column, in place.
#[offspring::worker]
fn center(matrix: RwLock<[f64]>, means: Vec<f64>) {
    let mut guard = matrix.write().expect("no process dies with the lock");
    let mut view = ArrayViewMut2::from_shape((ROWS, COLUMNS), &mut guard)
        .expect("the lock holds the whole matrix");
    view -= &Array1::from(means);
}

/// Returns the column sums of rows that were sent.
#[offspring::worker]
fn sums_of_copy(rows: Vec<f64>) -> Vec<f64> {
    let rows = Array2::from_shape_vec((rows.len() / COLUMNS, COLUMNS), rows)
        .expect("the rows are complete");
    rows.sum_axis(Axis(0)).to_vec()
}

fn parts() -> impl Iterator<Item = Range<usize>> {
    (0..PROCESSES).map(|n| n * ROWS / PROCESSES..(n + 1) * ROWS / PROCESSES)
}

fn total(children: Vec<offspring::Process<Vec<f64>>>) -> Result<Array1<f64>, Box<dyn Error>> {
    let mut total = Array1::zeros(COLUMNS);
    for child in children {
        total += &Array1::from(child.join()?);
    }
    Ok(total)
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    // Temperatures at a thousand places, for four thousand hours.
    let data = Array2::from_shape_fn((ROWS, COLUMNS), |(hour, place)| {
        (hour as f64 / 24.0).sin() * 10.0 + place as f64 / 100.0
    });
    let matrix = RwLock::from_slice(data.as_slice().ok_or("the matrix is not contiguous")?)?;

    let start = Instant::now();
    let children =
        parts().map(|rows| sums::spawn(matrix.clone(), rows)).collect::<Result<_, _>>()?;
    let shared = total(children)?;
    let time_shared = start.elapsed();

    let start = Instant::now();
    let children = parts()
        .map(|rows| sums_of_copy::spawn(data.slice(s![rows, ..]).iter().copied().collect()))
        .collect::<Result<_, _>>()?;
    let sent = total(children)?;
    if std::env::args().any(|argument| argument == "--times") {
        println!("shared: {time_shared:?}, sent: {:?}", start.elapsed());
    }
    println!("the sums are the same: {}", shared == sent);

    let means = shared / ROWS as f64;
    println!("mean of the first and the last place: {:.2} {:.2}", means[0], means[COLUMNS - 1]);
    center::spawn(matrix.clone(), means.to_vec())?.join()?;
    let guard = matrix.read().map_err(|error| error.to_string())?;
    let view = ArrayView2::from_shape((ROWS, COLUMNS), &guard)?;
    let rest = view.mean_axis(Axis(0)).ok_or("the matrix has no rows")?;
    println!("centered in place: {}", rest.iter().all(|mean| mean.abs() < 1e-9));
    Ok(())
}
