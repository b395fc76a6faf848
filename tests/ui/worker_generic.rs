#[offspring::worker]
fn show<T: ToString, const N: usize>(values: [T; N]) -> String {
    values.map(|value| value.to_string()).concat()
}

fn main() {
    show([1, 2]);
    let _ = show::spawn([1, 2]);
}
