fn main() {
    let n = 3;
    let _ = offspring::ProcessBuilder::new().spawn(move || n * n);
}
