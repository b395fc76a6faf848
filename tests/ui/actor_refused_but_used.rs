use std::collections::HashMap;

use offspring::supervisor::ChildSpec;

struct Cache(HashMap<String, u32>);

#[offspring::actor]
impl Cache {
    fn start() -> Self {
        Cache(HashMap::new())
    }

    pub fn get(&self, key: &str) -> Option<u32> {
        self.0.get(key).copied()
    }

    #[cast]
    pub fn set(&mut self, key: String, value: u32) {
        self.0.insert(key, value);
    }
}

#[offspring::worker]
fn warm_up(cache: CacheHandle) {
    cache.set("a".to_owned(), 1).unwrap();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::spawn()?;
    warm_up::spawn(cache.clone())?.join()?;
    println!("{:?}", cache.get("a")?);
    cache.stop();
    let _ = ChildSpec::actor::<Cache>("cache", ());
    Ok(())
}
