//! What starts a runtime goes inside, so that `init` comes before it.
#![deny(warnings)]

#[offspring::main]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), String> {
    async { Ok(()) }.await
}

#[offspring::test(timeout = "10s")]
#[tokio::main(flavor = "current_thread")]
async fn waits() -> Result<(), String> {
    async { Ok(()) }.await
}
