use std::net::TcpStream;

#[offspring::worker]
fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("localhost", port)).unwrap()
}

fn main() {}
