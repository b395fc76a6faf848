struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn address(&self) -> u64 {
        self.0
    }

    pub fn call(&self) -> u64 {
        self.0
    }

    pub fn call_timeout(&self) -> u64 {
        self.0
    }

    pub fn cast(&self) -> u64 {
        self.0
    }

    pub fn cast_timeout(&self) -> u64 {
        self.0
    }

    pub fn clone(&self) -> u64 {
        self.0
    }

    pub fn deref(&self) -> u64 {
        self.0
    }

    pub fn eq(&self) -> u64 {
        self.0
    }

    pub fn generation(&self) -> u64 {
        self.0
    }

    pub fn hash(&self) -> u64 {
        self.0
    }

    pub fn into(&self) -> u64 {
        self.0
    }

    pub fn is_alive(&self) -> u64 {
        self.0
    }

    pub fn kill(&self) -> u64 {
        self.0
    }

    pub fn link(&self) -> u64 {
        self.0
    }

    pub fn monitor(&self) -> u64 {
        self.0
    }

    pub fn name(&self) -> u64 {
        self.0
    }

    pub fn pid(&self) -> u64 {
        self.0
    }

    pub fn spawn(&self) -> u64 {
        self.0
    }

    pub fn timeout(&self) -> u64 {
        self.0
    }

    pub fn try_cast(&self) -> u64 {
        self.0
    }

    pub fn try_into(&self) -> u64 {
        self.0
    }

    pub fn typed(&self) -> u64 {
        self.0
    }

    pub fn with_timeout(&self) -> u64 {
        self.0
    }
}

fn main() {}
