//! Questions to whoever registers a runner, and their answers.

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

/// Whoever can be asked.
pub trait Ask {
    /// A line; `None` where nobody is there.
    ///
    /// # Errors
    /// It can't be read.
    fn line(&mut self, prompt: &str) -> Result<Option<String>>;

    /// A line that is not shown.
    ///
    /// # Errors
    /// It can't be read.
    fn hidden(&mut self, prompt: &str) -> Result<Option<SecretString>>;

    /// Says something.
    fn say(&mut self, text: &str);

    /// What was `given`, or else an answer, or else the default.
    ///
    /// # Errors
    /// There is none of these; `flag` is what to give instead.
    fn text(
        &mut self,
        given: Option<&str>,
        prompt: &str,
        default: Option<&str>,
        flag: &str,
    ) -> Result<String> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        let shown = match default {
            Some(default) if !default.is_empty() => format!("{prompt} [{default}]: "),
            _ => format!("{prompt}: "),
        };
        loop {
            match (self.line(&shown)?, default) {
                (Some(line), _) if !line.trim().is_empty() => return Ok(line.trim().to_owned()),
                (_, Some(default)) => return Ok(default.to_owned()),
                (Some(_), None) => self.say("This one is needed."),
                (None, None) => bail!("{flag} is missing"),
            }
        }
    }

    /// One of some words.
    ///
    /// # Errors
    /// There is no answer; `flag` is what to give instead.
    fn one_of(
        &mut self,
        given: Option<&str>,
        prompt: &str,
        words: &[&str],
        flag: &str,
    ) -> Result<String> {
        let prompt = format!("{prompt} ({})", words.join(" or "));
        loop {
            let word = self.text(given, &prompt, None, flag)?;
            if words.contains(&word.as_str()) {
                return Ok(word);
            }
            if given.is_some() {
                bail!("{flag} {word:?} is none of {}", words.join(", "));
            }
            self.say(&format!("{word:?} is none of {}.", words.join(", ")));
        }
    }

    /// A secret.
    ///
    /// # Errors
    /// There is no answer; `flag` is what to give instead.
    fn secret(&mut self, prompt: &str, flag: &str) -> Result<SecretString> {
        loop {
            match self.hidden(&format!("{prompt}: "))? {
                Some(secret) if !secret.expose_secret().trim().is_empty() => return Ok(secret),
                Some(_) => self.say("This one is needed."),
                None => bail!("{flag} is missing"),
            }
        }
    }
}

/// Standard input and error; what is typed as a secret is not shown.
#[derive(Debug)]
pub struct Terminal {
    asks: bool,
}

impl Terminal {
    /// One that asks, or one that does not.
    #[must_use]
    pub fn new(asks: bool) -> Self {
        Self { asks }
    }

    fn read() -> Result<Option<String>> {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        let read = read.context("reading an answer from standard input")?;
        Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn prompt(prompt: &str) -> Result<()> {
        let mut out = io::stderr().lock();
        write!(out, "{prompt}")
            .and_then(|()| out.flush())
            .context("asking a question")
    }
}

impl Ask for Terminal {
    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        if !self.asks {
            return Ok(None);
        }
        Self::prompt(prompt)?;
        Self::read()
    }

    fn hidden(&mut self, prompt: &str) -> Result<Option<SecretString>> {
        if !self.asks {
            return Ok(None);
        }
        if io::stdin().is_terminal() {
            let secret = rpassword::prompt_password(prompt).context("reading a secret")?;
            return Ok(Some(secret.into()));
        }
        Self::prompt(prompt)?;
        Ok(Self::read()?.map(SecretString::from))
    }

    fn say(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

/// A token from a file; `-` is standard input.
///
/// # Errors
/// It can't be read.
pub fn read_token_file(file: &Path) -> Result<SecretString> {
    let text = match file.to_str() {
        Some("-") => {
            io::read_to_string(io::stdin()).context("reading the token from standard input")?
        }
        _ => std::fs::read_to_string(file)
            .with_context(|| format!("reading the token from {}", file.display()))?,
    };
    Ok(text.trim().into())
}
