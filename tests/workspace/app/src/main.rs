use jobs::{Adder, Longest, double, quadruple};
use offspring::{ProcessBuilder, JoinableQueue, Pool, ProcessWorker};

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers = JoinableQueue::bounded(4)?;
    let adders = [(); 2].map(|()| Adder { numbers: numbers.clone() }.spawn());
    for n in 1..=100 {
        numbers.put(n)?;
    }
    numbers.join()?;
    numbers.close()?;
    let mut sum = 0;
    for adder in adders {
        sum += adder?.join()?;
    }
    let longest = ProcessBuilder::new()
        .spawn(Longest {
            of: vec!["a".to_owned(), "bcd".to_owned()],
        })?
        .join()?;
    let pool = Pool::new(2)?;
    let doubled: u64 = pool.map(0..10, double::new).collect::<Result<Vec<u64>, _>>()?.into_iter().sum();
    println!("{sum} {longest} {doubled} {}", quadruple::spawn(4)?.join()?);
    Ok(())
}
