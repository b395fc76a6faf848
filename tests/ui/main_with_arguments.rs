#[offspring::main]
fn main(args: Vec<String>) -> Result<(), String> {
    args.first().map(|_| ()).ok_or("no name".to_owned())
}
