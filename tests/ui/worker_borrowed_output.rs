#[offspring::worker]
fn name(id: u32) -> &'static str {
    if id == 0 { "root" } else { "user" }
}

fn main() {
    let _ = name::spawn(0);
}
