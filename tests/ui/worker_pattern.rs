#[offspring::worker]
fn add((a, b): (u32, u32), _: u8) -> u32 {
    a + b
}

fn main() {
    let sum: u32 = add::spawn((1, 2), 3).unwrap().join().unwrap();
    assert_eq!(sum, 3);
}
