//! Implementation detail of the `offspring` crate: its macros.
//!
//! Use the re-exports of that crate. Paths in generated code start at `::offspring`.

use proc_macro::TokenStream;

mod actor;
mod check;
mod crossing;
mod expand;
mod options;
mod parse;

/// Registers a type as a worker, so that a child process can find it by its name and run it.
///
/// For a struct or an enum `T`, it generates
///
/// - `impl offspring::Worker for T`, with the bound `'static` on each type parameter;
/// - if `T` has no parameters, `offspring::register!(T)`.
///
/// A program registers the instances of a generic worker that it uses:
///
/// ```text
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Smooth<T> { samples: Vec<T> }
///
/// offspring::register!(Smooth<f32>, Smooth<f64>);
/// ```
///
/// The type also needs `impl ProcessWorker for T`, which defines what the worker does, and
/// `#[derive(Serialize, Deserialize)]`, which sends its fields to the child.
///
/// # Arguments
///
/// `#[offspring(..)]` on the type takes
///
/// - `name = "stable.name"`: the name to register the type under, up to 200 bytes without control
///   characters. Defaults to the path of the type. Names are unique in a program, so a generic type
///   cannot have one.
/// - `crate = path`: the path of the `offspring` crate. Defaults to `::offspring`; with a crate that
///   re-exports it, `crate = ::facade::offspring`.
///
/// # Rejected
///
/// A union, a lifetime parameter (a worker moves to another process and cannot borrow), `name` on a
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

/// Makes a free function a worker. It can still be called as a plain function.
///
/// ```text
/// #[offspring::worker]
/// fn clock(ticks: u32, interval: Duration) -> u32 { .. }
///
/// clock(5, SECOND);                  // runs here
/// clock::spawn(5, SECOND)?.join()?;  // runs in a child of its own
/// pool.submit(clock::new(5, SECOND)) // runs on a pool
/// ```
///
/// In addition to `fn clock`, it generates, with the visibility of the function,
///
/// - `struct clock { .. }` with the arguments as private fields, `Serialize` and `Deserialize` (a
///   type and a function can share a name);
/// - `clock::new(ticks, interval) -> clock`;
/// - `clock::spawn(ticks, interval) -> Result<Process<u32>, SpawnError>`;
/// - `impl ProcessWorker for clock`, whose `run` calls the function, and `impl Worker for clock`;
/// - `offspring::register!(clock)`.
///
/// The struct inherits the first paragraph of the function's docs, `#[doc(..)]`, `#[deprecated]`
/// and `#[allow(..)]`; a `#[cfg]` applies to both. All other attributes stay on the function.
/// `#[serde(..)]` on an argument moves to its field. In docs, write a link to the function as
/// `clock()`.
///
/// Each argument must be `Serialize` and `DeserializeOwned`, and so must the output. A function
/// that returns `!` has the output `()`.
///
/// # Arguments
///
/// - `name = "stable.name"`: the name to register the worker under, up to 200 bytes without control
///   characters. Defaults to the path of the struct.
/// - `crate = path`: the path of the `offspring` crate. Defaults to `::offspring`.
///
/// # Rejected
///
/// Methods, generic functions, arguments or outputs that borrow or are `impl Trait`, arguments that
/// are patterns or have a `#[cfg]`, and `async`, `unsafe` and `extern` functions. Each error says
/// what to write instead.
#[proc_macro_attribute]
pub fn worker(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("worker", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::worker(&function);
    verdict.report(expand::worker(&function, &verdict)).into()
}

/// Makes a type an actor: the methods of its `impl` block become messages, and methods of a typed
/// handle.
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
/// The block stays as it is. In addition, the macro generates, with the visibility of `start`,
///
/// - `enum CounterMessage` and `enum CounterReply`, with one variant per message;
/// - `impl Actor for Counter`, with the arguments of `start` as a tuple, and its registration;
/// - `struct CounterHandle`, an address with one method per message: `get` blocks until the reply,
///   `get_async` returns a future, and a cast does not wait;
/// - `Counter::spawn`, with the arguments of `start`, which starts the actor.
///
/// A method that is `pub` and takes `&self` or `&mut self` is a message; all others are helpers.
/// `start` returns `Self` or a `Result`, and can take a `&Context<Self>` as its last argument.
/// `stop(&mut self, reason: &DownReason)` and `checkpoint(&mut self) -> Option<Checkpoint>` are the
/// hooks of [`Actor`](../offspring/actor/trait.Actor.html). The handle inherits docs, `#[cfg]`,
/// `#[deprecated]` and `#[allow]`.
///
/// # Arguments
///
/// - `crate = path`: the path of the `offspring` crate. Defaults to `::offspring`.
///
/// # Rejected
///
/// Generic types, a block without `start`, messages that borrow, are generic, `async` or `unsafe`,
/// a `#[cast]` that returns a value, and names of the handle's own methods.
#[proc_macro_attribute]
pub fn actor(args: TokenStream, item: TokenStream) -> TokenStream {
    actor::actor(args.into(), item.into()).into()
}

/// Calls `offspring::init()` at the start of `main`. In a child process, that runs the worker and
/// does not return.
///
/// ```text
/// #[offspring::main]                      fn main() -> Result<(), Error> {
/// fn main() -> Result<(), Error> {            offspring::init();
///     body                                    body
/// }                                       }
/// ```
///
/// Attributes below this one that rustc does not know, such as those of async runtimes, move to an
/// inner function, so that `init` runs before they set anything up:
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
/// An attribute that changes the return type of `main` must be above this one.
///
/// # Arguments
///
/// - `crate = path`: the path of the `offspring` crate. Defaults to `::offspring`.
///
/// # Rejected
///
/// A function that is not called `main`, arguments, generics, `const`, and an `async fn` without
/// the attribute of a runtime below this one.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("main", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::main(&function);
    verdict.report(expand::main(&function, &verdict)).into()
}

/// Makes a function a test that can start processes. A child starts the test binary, which runs
/// this test; the test's first line runs the worker instead of the body.
///
/// ```text
/// #[offspring::test(timeout = "10s")]
/// fn counts() -> Result<(), Box<dyn Error>> {
///     assert_eq!(clock::spawn(5, SECOND)?.join()?, 5);
///     Ok(())
/// }
/// ```
///
/// It generates a `#[test]` function `counts`, which enters the test and then runs the body. With a
/// `timeout`, the body runs on a thread of its own, and the function returns the `ExitCode` of the
/// body's result, so that the result itself need not be `Send`.
///
/// All attributes stay on that function, except for an `async fn`: there, attributes that rustc
/// does not know, such as `#[tokio::main(flavor = "current_thread")]`, move to an inner function.
///
/// # Arguments
///
/// - `timeout = "10s"`: fails the test if it takes longer; a whole number of `ms`, `s` or `m`.
///   Defaults to no limit.
/// - `crate = path`: the path of the `offspring` crate. Defaults to `::offspring`.
///
/// # Rejected
///
/// A second `#[test]` of any kind below this one (the macro cannot see one above, and the test then
/// runs twice), arguments, generics, `const`, and an `async fn` without the attribute of a runtime
/// below this one.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse::Function::parse("test", args.into(), item.into()) {
        Ok(function) => function,
        Err(as_written) => return as_written.into(),
    };
    let verdict = check::test(&function);
    verdict.report(expand::test(&function, &verdict)).into()
}
