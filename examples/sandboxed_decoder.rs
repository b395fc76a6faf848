//! Decodes images that strangers sent, on a pool whose processes can use their tasks and nothing
//! else. One image is a bomb, and one makes the decoder run code of its own, as an image that exploits
//! a bug does.

use std::fs::File;
use std::io::Cursor;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use offspring::Pool;
use offspring::pool::TaskError;
use offspring::process::Sandbox;
use offspring::unix::Resource;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Picture {
    width: u32,
    height: u32,
    average: u8,
}

/// Runs in the sandbox.
#[offspring::worker]
fn decode(file: Vec<u8>) -> Result<Picture, String> {
    let mut reader =
        png::Decoder::new(Cursor::new(file)).read_info().map_err(|error| error.to_string())?;
    if let Some(code) = reader.info().uncompressed_latin1_text.first() {
        have_the_bug(&code.keyword);
    }
    let size = reader.output_buffer_size().ok_or("it has too many pixels")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    let sum: u64 = pixels.iter().map(|&byte| u64::from(byte)).sum();
    let average = (sum / size.max(1) as u64) as u8;
    Ok(Picture { width: frame.width, height: frame.height, average })
}

/// The decoder above is written in Rust, and has no bug that runs what a file says. This stands in
/// for one.
fn have_the_bug(code: &str) {
    if code == "steal" {
        println!("  stolen: {:?}", File::open("/etc/passwd").map_err(|error| error.kind()));
        println!("  sent: {:?}", TcpStream::connect("127.0.0.1:80").map_err(|error| error.kind()));
        println!("  started: {:?}", Command::new("/bin/sh").spawn().map_err(|error| error.kind()));
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::fields_only().limit(Resource::AddressSpace, 1 << 30);
    let pool = Pool::builder()
        .workers(1)
        .process(move |_, builder| builder.sandbox(sandbox.clone()))
        .task_timeout(Duration::from_secs(10))
        .build()?;
    let good = image(64, "by")?;
    let cut = good[..good.len() / 2].to_vec();
    let files = [
        ("a picture", good),
        ("half a picture", cut),
        ("a bomb", bomb()?),
        ("an attack", image(8, "steal")?),
    ];
    for (name, file) in files {
        println!("{name}:");
        match pool.run(decode::new(file)) {
            Ok(Ok(Picture { width, height, average })) => {
                println!("  {width} x {height}, average {average}");
            }
            Ok(Err(problem)) => println!("  not decoded: {problem}"),
            Err(TaskError::Died { reason, .. }) => println!("  the decoder {reason}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A grey square, with a text.
fn image(size: u32, keyword: &str) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size, size);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.add_text_chunk(keyword.to_owned(), "somebody".to_owned())?;
    encoder.write_header()?.write_image_data(&vec![128; (size * size) as usize])?;
    Ok(file)
}

/// A small file that says it is 100,000 pixels wide and high.
fn bomb() -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 100_000, 100_000);
    encoder.set_color(png::ColorType::Rgb);
    // The rest of the file is missing: no decoder gets that far.
    encoder.write_header()?.write_chunk(png::chunk::IDAT, &[0x78, 0x9c])?;
    Ok(file)
}
