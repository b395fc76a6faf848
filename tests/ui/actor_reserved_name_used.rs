struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counter = Counter::spawn()?;
    println!("{}", counter.pid()?);
    Ok(())
}
