//! Patterns of paths as GitLab's job files have them, with the meaning of the Go library doublestar:
//! `*`, `?`, `[a-z]`, `[^a]`, `[!a]`, `{a,b}`, `\` before a character, and `**` for any number of
//! directories. A leading dot is a character like any other.

/// The most patterns that braces may stand for.
const MOST: usize = 1024;

/// A pattern for paths below one directory.
#[derive(Debug)]
pub(crate) struct Pattern {
    alternatives: Vec<Vec<Component>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Component {
    /// `**`
    Deep,
    Name(Vec<u8>),
    Glob(Vec<Token>),
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
    Class(bool, Vec<(char, char)>),
}

/// How far the names of a path have matched: an alternative and a component of it.
type State = (usize, usize);

/// How far a path has matched a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    states: Vec<State>,
}

/// Why a text is no pattern for paths of a project.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPattern {
    /// A bracket, brace or backslash without its end.
    #[error("syntax error in pattern")]
    Syntax,
    /// It leads out of the project.
    #[error("artifact path is not a subpath of project directory: {0}")]
    Outside(String),
}

impl Pattern {
    /// Reads a pattern. One that is absolute has to lie in `root`, an absolute path.
    pub(crate) fn new(text: &str, root: &str) -> Result<Self, BadPattern> {
        let outside = || BadPattern::Outside(text.to_owned());
        let mut alternatives = Vec::new();
        for one in braces(text)? {
            let names = clean(&one).ok_or_else(outside)?;
            let names = if one.starts_with('/') {
                let root = clean(root).ok_or_else(outside)?;
                names.strip_prefix(&*root).ok_or_else(outside)?.to_vec()
            } else {
                names
            };
            let components: Result<Vec<_>, _> = names.into_iter().map(component).collect();
            alternatives.push(components?);
        }
        Ok(Self { alternatives })
    }

    /// The progress before the first name.
    pub(crate) fn begin(&self) -> Progress {
        let states = (0..self.alternatives.len()).map(|alternative| (alternative, 0));
        self.closed(states.collect())
    }

    /// The progress after one more name. `deep` is whether `**` may take it.
    pub(crate) fn step(&self, at: &Progress, name: &[u8], deep: bool) -> Progress {
        let mut states = Vec::new();
        for &(alternative, index) in &at.states {
            match self.alternatives[alternative].get(index) {
                Some(Component::Deep) if deep => states.push((alternative, index)),
                Some(Component::Name(own)) if own == name => states.push((alternative, index + 1)),
                Some(Component::Glob(tokens)) if matches(tokens, name) => {
                    states.push((alternative, index + 1));
                }
                _ => {}
            }
        }
        self.closed(states)
    }

    /// Whether the names so far are what the pattern means.
    pub(crate) fn accepts(&self, at: &Progress) -> bool {
        at.states
            .iter()
            .any(|&(alternative, index)| index == self.alternatives[alternative].len())
    }

    /// The names that may come next, if they are known without looking.
    pub(crate) fn next_names(&self, at: &Progress) -> Option<Vec<&[u8]>> {
        let mut names = Vec::new();
        for &(alternative, index) in &at.states {
            match self.alternatives[alternative].get(index) {
                Some(Component::Name(name)) => names.push(name.as_slice()),
                Some(_) => return None,
                None => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// Whether a whole path, with `/` between its names, is what the pattern means.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let mut at = self.begin();
        for name in path.split(|byte| *byte == b'/') {
            at = self.step(&at, name, true);
            if at.is_over() {
                return false;
            }
        }
        self.accepts(&at)
    }

    /// `**` stands for no directory, too.
    fn closed(&self, mut states: Vec<State>) -> Progress {
        let mut next = 0;
        while let Some(&(alternative, index)) = states.get(next) {
            if self.alternatives[alternative].get(index) == Some(&Component::Deep) {
                states.push((alternative, index + 1));
            }
            next += 1;
        }
        states.sort_unstable();
        states.dedup();
        Progress { states }
    }
}

impl Progress {
    /// Whether no name can make it match any more.
    pub(crate) fn is_over(&self) -> bool {
        self.states.is_empty()
    }
}

/// The names of a path, with `.` and `..` resolved; none where it leads above its beginning.
fn clean(path: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names)
}

/// The patterns that one with braces stands for.
fn braces(text: &str) -> Result<Vec<String>, BadPattern> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        if done.len() + open.len() >= MOST {
            return Err(BadPattern::Syntax);
        }
        match first_braces(&text)? {
            None => done.push(text),
            Some((start, commas, end)) => {
                let mut ends = commas.clone();
                ends.push(end);
                let mut begin = start + 1;
                for stop in ends {
                    open.push(format!(
                        "{}{}{}",
                        &text[..start],
                        &text[begin..stop],
                        &text[end + 1..]
                    ));
                    begin = stop + 1;
                }
            }
        }
    }
    Ok(done)
}

/// Where the first braces are: their start, the commas of their own level, their end.
fn first_braces(text: &str) -> Result<Option<(usize, Vec<usize>, usize)>, BadPattern> {
    let (mut depth, mut start, mut commas) = (0u32, 0, Vec::new());
    let mut class = false;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next().ok_or(BadPattern::Syntax)?;
            }
            '[' if !class => class = true,
            ']' => class = false,
            '{' if !class => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            ',' if depth == 1 && !class => commas.push(at),
            '}' if depth > 0 && !class => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((start, commas, at)));
                }
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(BadPattern::Syntax);
    }
    Ok(None)
}

fn component(text: &str) -> Result<Component, BadPattern> {
    if text == "**" {
        return Ok(Component::Deep);
    }
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' if tokens.last() == Some(&Token::Any) => continue,
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Char(rest.next().ok_or(BadPattern::Syntax)?),
            '[' => class(&mut rest)?,
            other => Token::Char(other),
        });
    }
    let literal: Option<String> = tokens
        .iter()
        .map(|token| match token {
            Token::Char(character) => Some(*character),
            _ => None,
        })
        .collect();
    Ok(match literal {
        Some(name) => Component::Name(name.into_bytes()),
        None => Component::Glob(tokens),
    })
}

/// What is between brackets; the first is read already.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = rest.next_if(|next| matches!(next, '^' | '!')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next().ok_or(BadPattern::Syntax)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class(negated, ranges)),
            ']' | '-' => return Err(BadPattern::Syntax),
            '\\' => rest.next().ok_or(BadPattern::Syntax)?,
            other => other,
        };
        let last = if rest.next_if_eq(&'-').is_some() {
            match rest.next().ok_or(BadPattern::Syntax)? {
                ']' | '-' => return Err(BadPattern::Syntax),
                '\\' => rest.next().ok_or(BadPattern::Syntax)?,
                other => other,
            }
        } else {
            first
        };
        ranges.push((first, last));
    }
}

/// Whether a name is what tokens mean. A byte that is not UTF-8 counts as one character.
fn matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        let (character, length) = first_character(&name[at..]);
        let fits = match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::One) => true,
            Some(Token::Char(own)) => character == Some(*own),
            Some(Token::Class(negated, ranges)) => character.is_some_and(|character| {
                *negated
                    != ranges
                        .iter()
                        .any(|(first, last)| (*first..=*last).contains(&character))
            }),
            None => false,
        };
        if fits {
            token += 1;
            at += length;
        } else if let Some((any, from)) = star {
            let from = from + first_character(&name[from..]).1;
            star = Some((any, from));
            (token, at) = (any + 1, from);
        } else {
            return false;
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

fn first_character(bytes: &[u8]) -> (Option<char>, usize) {
    let most = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(most) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&most[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => (Some(character), character.len_utf8()),
        None => (None, 1),
    }
}

#[cfg(test)]
mod tests;
