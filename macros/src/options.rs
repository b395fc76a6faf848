//! The arguments of an attribute, and the collector of errors.

use std::fmt::Display;
use std::time::Duration;

use quote::ToTokens;
use syn::{Expr, ExprLit, Lit, LitStr, Path, parse_quote};

use crate::parse::{self, Args, Pair};

/// All mistakes found so far, to be reported at once.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn get(&self) -> Option<&syn::Error> {
        self.0.as_ref()
    }
}

/// The key of an argument.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Crate,
    Name,
    Timeout,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Key::Crate => "crate",
            Key::Name => "name",
            Key::Timeout => "timeout",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Key::Crate => "`crate = path`",
            Key::Name => "`name = \"stable.name\"`",
            Key::Timeout => "`timeout = \"10s\"`",
        }
    }
}

/// The values of the arguments. An invalid argument counts as absent.
pub(crate) struct Options {
    /// The path of the `offspring` crate.
    pub(crate) krate: Path,
    /// The name to register the worker under, if it is not the type's path.
    pub(crate) name: Option<LitStr>,
    /// The time limit of the test.
    pub(crate) timeout: Option<Duration>,
}

impl Options {
    pub(crate) fn read(
        args: &Args,
        attribute: &str,
        known: &[Key],
        errors: &mut Errors,
    ) -> Options {
        let mut options = Options { krate: parse_quote!(::offspring), name: None, timeout: None };
        let pairs = match args {
            Ok(pairs) => pairs,
            Err(error) => {
                errors.add(error.clone());
                return options;
            }
        };
        for (place, Pair { key, value }) in pairs.iter().enumerate() {
            let Some(known_key) = known.iter().find(|known| key == known.name()) else {
                let usage: Vec<&str> = known.iter().map(|known| known.usage()).collect();
                let usage = usage.join(" and ");
                errors.at(key, format!("unknown argument `{key}`: `{attribute}` takes {usage}"));
                continue;
            };
            if pairs[..place].iter().any(|earlier| earlier.key == *key) {
                errors.at(key, format!("`{key}` is given twice"));
                continue;
            }
            let read = match known_key {
                Key::Crate => krate(value).map(|krate| options.krate = krate),
                Key::Name => name(value).map(|name| options.name = Some(name)),
                Key::Timeout => timeout(value).map(|timeout| options.timeout = Some(timeout)),
            };
            if let Err(message) = read {
                errors.at(value, message);
            }
        }
        options
    }
}

fn krate(value: &Expr) -> Result<Path, String> {
    // Serde takes such a path in quotes, so accept both forms.
    let path = match ungrouped(value) {
        Expr::Path(path) if path.qself.is_none() => Some(path.path.clone()),
        value => text(value).and_then(|text| text.parse_with(Path::parse_mod_style).ok()),
    };
    path.ok_or_else(|| {
        "expected the path of the `offspring` crate, such as `crate = ::facade::offspring`"
            .to_owned()
    })
}

/// In bytes. A name is part of every handshake and of error messages.
const LONGEST_NAME: usize = 200;

fn name(value: &Expr) -> Result<LitStr, String> {
    let name = text(value).ok_or("a name must be a string literal: `name = \"stable.name\"`")?;
    let text = name.value();
    if text.is_empty() {
        Err("a name cannot be empty: remove `name` to register under the path of the type"
            .to_owned())
    } else if text.len() > LONGEST_NAME {
        Err(format!("a name can have up to {LONGEST_NAME} bytes, this one has {}", text.len()))
    } else if text.chars().any(char::is_control) {
        Err("a name cannot contain control characters".to_owned())
    } else {
        Ok(name.clone())
    }
}

fn timeout(value: &Expr) -> Result<Duration, String> {
    match text(value).and_then(|text| parse::duration(&text.value())) {
        Some(Duration::ZERO) => Err("a timeout cannot be zero".to_owned()),
        Some(timeout) => Ok(timeout),
        None => Err("a timeout is a whole number with a unit: `\"500ms\"`, `\"10s\"` or `\"2m\"`"
            .to_owned()),
    }
}

/// The string in `value`, even if it comes from a `macro_rules!` fragment.
fn text(value: &Expr) -> Option<&LitStr> {
    match ungrouped(value) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

fn ungrouped(value: &Expr) -> &Expr {
    match value {
        Expr::Group(group) => ungrouped(&group.expr),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let error = |text: &str| name(&parse_quote!(#text)).err().unwrap_or_default();
        assert!(error("").contains("empty"));
        assert_eq!(error(&"n".repeat(200)), "");
        assert!(error(&"n".repeat(201)).contains("has 201"));
        assert!(error(&"ä".repeat(101)).contains("has 202"), "it counts bytes, not characters");
        assert!(error("a\nb").contains("control"));
        assert_eq!(error("größe 2"), "");
    }

    #[test]
    fn the_crate_is_a_path_or_a_string() {
        let read = |value: Expr| krate(&value).map(|path| path.to_token_stream().to_string());
        assert_eq!(read(parse_quote!(crate)).unwrap(), "crate");
        assert_eq!(read(parse_quote!(::a::b)).unwrap(), ":: a :: b");
        assert_eq!(read(parse_quote!("::a::b")).unwrap(), ":: a :: b");
        assert!(read(parse_quote!("a b")).is_err());
        assert!(read(parse_quote!(1)).is_err());
    }

    #[test]
    fn a_timeout_is_text_and_not_zero() {
        assert_eq!(timeout(&parse_quote!("2m")), Ok(Duration::from_secs(120)));
        assert!(timeout(&parse_quote!("0ms")).unwrap_err().contains("zero"));
        assert!(timeout(&parse_quote!(10)).unwrap_err().contains("unit"));
    }
}
