//! Implementation detail of the `offspring` crate: its macros.
//!
//! Use them by their re-exports there. The paths in what they generate start at `::offspring`.

use proc_macro::TokenStream;

mod actor;
mod check;
mod expand;
mod options;
mod parse;

/// Registers a type, so that a child process can find it by its name and run it.
///
/// For a struct or an enum `T` it generates
///
/// - `impl offspring::Worker for T`, with the bound `'static` on each type parameter;
/// - if `T` has no parameters, `offspring::register!(T)`.
///
/// The instances of a generic worker are registered by the program that uses them:
///
/// ```text
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Smooth<T> { samples: Vec<T> }
///
/// offspring::register!(Smooth<f32>, Smooth<f64>);
/// ```
///
/// What the worker does is written by hand, in `impl ProcessWorker for T`, and its fields cross by
/// the user's `#[derive(Serialize, Deserialize)]`.
///
/// # Arguments
///
/// `#[offspring(..)]` on the type takes
///
/// - `name = "stable.name"`: what the type is registered by, at most 200 bytes without control
///   characters. Defaults to the path of the type. Two workers of one program must not share a
///   name, so a generic type cannot have one.
/// - `crate = path`: where `offspring` is found. Defaults to `::offspring`; a crate that re-exports
///   it writes `crate = ::facade::offspring`.
///
/// # Refused
///
/// A union, a lifetime parameter (a worker crosses a process border and cannot borrow), `name` on a
/// generic type, and `#[offspring(..)]` on a field or a variant.
#[proc_macro_derive(Worker, attributes(offspring))]
pub fn derive_worker(input: TokenStream) -> TokenStream {
    let input = match parse::Type::parse(input.into()) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error().into(),
    };
    let verdict = check::worker_type(&input);
    verdict.report(expand::worker_type(&input, &verdict)).into()
}

/// Makes a worker of a free function, which stays a plain function.
///
/// ```text
/// #[offspring::worker]
/// fn clock(ticks: u32, interval: Duration) -> u32 { .. }
///
/// clock(5, SECOND);                  // called here
/// clock::spawn(5, SECOND)?.join()?;  // in a child of its own
/// pool.submit(clock::new(5, SECOND)) // as a value
/// ```
///
/// Beside `fn clock` it generates, in the type namespace and with the visibility of the function,
///
/// - `struct clock { .. }` with the arguments as private fields, `Serialize` and `Deserialize`;
/// - `clock::new(ticks, interval) -> clock`;
/// - `clock::spawn(ticks, interval) -> Result<Process<u32>, SpawnError>`;
/// - `impl ProcessWorker for clock`, whose `run` calls the function, and `impl Worker for clock`;
/// - `offspring::register!(clock)`.
///
/// The first paragraph of the function's docs, `#[doc(..)]`, `#[deprecated]` and `#[allow(..)]` are
/// carried over to the struct, and a `#[cfg]` holds for both. In docs, a link to the function is
/// written `clock()`. Every other attribute stays on the function alone. `#[serde(..)]` before an
/// argument moves to its field.
///
/// Each argument must be `Serialize` and `DeserializeOwned`, and so must the output. A function
/// that returns `!` has the output `()`.
///
/// # Arguments
///
/// - `name = "stable.name"`: what the worker is registered by, at most 200 bytes without control
///   characters. Defaults to the path of the struct.
/// - `crate = path`: where `offspring` is found. Defaults to `::offspring`.
///
/// # Refused
///
/// Methods, generic functions, arguments or outputs that borrow or are `impl Trait`, arguments that
/// are patterns or have a `#[cfg]`, and `async`, `unsafe` and `extern` functions. Each error names
/// the way out.
#[proc_macro_attribute]
pub fn worker(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("worker", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::worker(&function);
    verdict.report(expand::worker(&function, &verdict)).into()
}

/// Makes an actor of a type: the methods of its `impl` block become messages, and those of a typed handle.
///
/// ```text
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self { .. }
///     pub fn get(&self) -> u64 { .. }
///     #[cast]
///     pub fn add(&mut self, n: u64) { .. }
/// }
///
/// let counter = Counter::spawn(10)?;  // ActorOwner<CounterHandle>
/// counter.add(5)?;
/// assert_eq!(counter.get()?, 15);
/// ```
///
/// The block stays as it is. Beside it are generated, with the visibility of `start`,
///
/// - `enum CounterMessage` and `enum CounterReply`, with a variant for each message;
/// - `impl Actor for Counter`, with the arguments of `start` as a tuple, and its registration;
/// - `struct CounterHandle`, an address with a method for each message: `get` waits for the reply, `get_async` is a
///   future, and a cast goes on;
/// - `Counter::spawn`, with the arguments of `start`.
///
/// Messages are the methods that are `pub` and take `&self` or `&mut self`; others are helpers. `start` returns `Self` or a
/// `Result`, and may take a `&Context<Self>` last. `stop(&mut self, reason: &DownReason)` and `checkpoint(&self) -> Option<Checkpoint>`
/// are the hooks of their names. Docs, `#[cfg]`, `#[deprecated]` and `#[allow]` are carried over.
///
/// # Arguments
///
/// - `crate = path`: where `offspring` is found. Defaults to `::offspring`.
///
/// # Refused
///
/// Generic types, a block without `start`, messages that borrow, are generic, `async` or `unsafe`, a `#[cast]` that returns
/// something, and names that the handle has itself.
#[proc_macro_attribute]
pub fn actor(args: TokenStream, item: TokenStream) -> TokenStream {
    actor::actor(args.into(), item.into()).into()
}

/// Starts `main` with `offspring::init()`, which in a child process runs the worker and does not
/// return.
///
/// ```text
/// #[offspring::main]                      fn main() -> Result<(), Error> {
/// fn main() -> Result<(), Error> {            offspring::init();
///     body                                    body
/// }                                       }
/// ```
///
/// Attributes below this one that rustc does not know, as those of async runtimes, go on a function
/// inside, so that `init` comes before whatever they set up:
///
/// ```text
/// #[offspring::main]                      fn main() -> Result<(), Error> {
/// #[tokio::main]                              #[tokio::main]
/// async fn main() -> Result<(), Error> {      async fn main() -> Result<(), Error> { body }
///     body                                    offspring::init();
/// }                                           main()
///                                         }
/// ```
///
/// An attribute that changes the type which `main` returns goes above this one.
///
/// # Arguments
///
/// - `crate = path`: where `offspring` is found. Defaults to `::offspring`.
///
/// # Refused
///
/// A function of another name, arguments, generics, `const`, and an `async fn` without a runtime's
/// attribute below.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("main", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::main(&function);
    verdict.report(expand::main(&function, &verdict)).into()
}

/// Makes a test whose worker processes can start: a child comes back to this test, and no further
/// than its first line.
///
/// ```text
/// #[offspring::test(timeout = "10s")]
/// fn counts() -> Result<(), Box<dyn Error>> {
///     assert_eq!(clock::spawn(5, SECOND)?.join()?, 5);
///     Ok(())
/// }
/// ```
///
/// It generates the `#[test]` function `counts`, which enters the test and then runs the body; with
/// a `timeout`, on a thread of its own. Such a test returns the `ExitCode` of what the body
/// returns, which therefore need not be `Send`.
///
/// All attributes stay on that function. Of an `async fn` those that rustc does not know, such as
/// `#[tokio::main(flavor = "current_thread")]`, go on a function inside.
///
/// # Arguments
///
/// - `timeout = "10s"`: how long the test may take, a whole number of `ms`, `s` or `m`. Defaults to
///   no limit.
/// - `crate = path`: where `offspring` is found. Defaults to `::offspring`.
///
/// # Refused
///
/// A second `#[test]` of any kind below this one (above, it cannot be seen, and the test runs
/// twice), arguments, generics, `const`, and an `async fn` without a runtime's attribute below.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("test", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::test(&function);
    verdict.report(expand::test(&function, &verdict)).into()
}
