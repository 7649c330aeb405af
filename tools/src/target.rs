//! Which database a verb is about, and the ways to open it.
//!
//! Always true: only [`Target::writer`] takes the writer role; everything else reads.

use std::{ffi::OsString, path::Path};

use anyhow::Result;
use clap::Args;
use esker::{
    Builder, Db, Reader,
    clock::SystemClock,
    manifest::{Manifest, identity::Identity},
    stats::Cause,
    store::{Name, Store, url::is_url},
};

use crate::exit::Stop;

/// The database, as the first word after the verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// The database: file:///path, a plain path, s3://bucket/prefix, … (or --url, or ESKER_URL)
    #[arg(value_name = "URL")]
    pub(crate) url: String,
}

impl Target {
    /// The store at the URL, whether or not there is a database in it.
    pub(crate) fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.url, SystemClock::shared())?)
    }

    /// The store and the identity of the database in it; "not found" if there is none.
    pub(crate) async fn database(&self) -> Result<(Store, Identity)> {
        let manifest = self.manifest().await?;
        Ok((manifest.store().clone(), manifest.identity().clone()))
    }

    /// The manifest of an existing database; "not found" if there is none.
    pub(crate) async fn manifest(&self) -> Result<Manifest> {
        let store = self.store()?;
        let none = Stop::not_found(format!("there is no database at {}", store.url()))
            .hint("check the URL; `esker load` and `esker put` create a database where there is none");
        Ok(Manifest::find(store).await?.ok_or(none)?)
    }

    /// A reader of an existing database that holds what was acknowledged before this call, and does
    /// not follow what comes later.
    pub(crate) async fn reader(&self) -> Result<Reader> {
        let (store, _) = self.database().await?;
        Ok(Reader::builder(&self.url).store(store).follow(false).open().await?)
    }

    /// The same, or with a name a reader of that checkpoint.
    pub(crate) async fn reader_at(&self, checkpoint: Option<&str>) -> Result<Reader> {
        let Some(name) = checkpoint else { return self.reader().await };
        let (store, _) = self.database().await?;
        if store.get(&Name::checkpoint(name)?, Cause::Admin).await?.is_none() {
            let stop = Stop::not_found(format!("there is no checkpoint {name:?}"));
            return Err(stop.hint("`esker checkpoint URL list` shows which there are").into());
        }
        Ok(Reader::builder(&self.url).store(store).checkpoint(name).open().await?)
    }

    /// A writer, made ready by `set`. Takes the writer role over from whoever holds it.
    pub(crate) async fn writer(&self, set: impl FnOnce(Builder) -> Builder) -> Result<Db> {
        let name = format!("esker command, process {}", std::process::id());
        Ok(set(Db::builder(&self.url).name(name)).open().await?)
    }
}

/// The command line as text. A word that is none is refused: replacing what cannot be read would make two keys one.
pub(crate) fn as_text(words: Vec<OsString>) -> std::result::Result<Vec<String>, Stop> {
    let text = |(at, word): (usize, OsString)| match word.into_string() {
        Ok(word) => Ok(word),
        // The program's own name is nobody's key.
        Err(word) if at == 0 => Ok(word.to_string_lossy().into_owned()),
        Err(word) => {
            Err(Stop::usage(format!("word {at} of the command line, {}, is not UTF-8", word.display()))
                .hint("write binary keys and values as hex digits, with --hex"))
        }
    };
    words.into_iter().enumerate().map(text).collect()
}

/// Puts the URL from `--url` or `variable` where the grammar wants it: right after the verb.
///
/// Words after `--` and the verbs in `doors` are left alone. `--url` wins over the variable, and so does a URL among the
/// words. Fails if the first word is a folder with a database in it and the variable is set: which one is meant?
pub(crate) fn place_url(
    words: Vec<String>,
    variable: Option<String>,
    doors: &[&str],
) -> std::result::Result<Vec<String>, Stop> {
    let Some(verb) = words.iter().skip(1).position(|word| !word.starts_with('-')).map(|at| at + 1) else {
        return Ok(words);
    };
    if doors.contains(&words[verb].as_str()) {
        return Ok(words);
    }
    let mut said = None;
    let mut kept = Vec::with_capacity(words.len() + 1);
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            kept.push(word);
            break;
        } else if word == "--url" {
            match rest.next() {
                Some(value) => said = Some(value),
                // Left for the parser to complain about.
                None => kept.push(word),
            }
        } else if let Some(value) = word.strip_prefix("--url=") {
            said = Some(value.to_owned());
        } else {
            kept.push(word);
        }
    }
    let before_dashes = kept.len();
    kept.extend(rest);
    let Some(verb) = kept.iter().skip(1).position(|word| !word.starts_with('-')).map(|at| at + 1) else {
        return Ok(kept);
    };
    let given = &kept[verb + 1..before_dashes.max(verb + 1)];
    let url = match (said, variable.filter(|value| !value.is_empty())) {
        (Some(url), _) => url,
        (None, None) => return Ok(kept),
        (None, Some(_)) if has_url(given) => return Ok(kept),
        (None, Some(url)) => {
            if let Some(first) = given.first().filter(|word| Path::new(word).join("DB").is_file()) {
                let what = format!("there is a database in the folder {first}, and ESKER_URL names {url}");
                return Err(
                    Stop::usage(what).hint(format!("say which one is meant: --url {first}, or --url {url}"))
                );
            }
            url
        }
    };
    kept.insert(verb + 1, url);
    Ok(kept)
}

/// Whether one of `words` is a URL that is not the value of an option.
fn has_url(words: &[String]) -> bool {
    words.iter().enumerate().any(|(at, word)| is_url(word) && (at == 0 || !words[at - 1].starts_with("--")))
}

#[cfg(test)]
mod tests {
    use super::place_url;

    fn placed(line: &str, variable: Option<&str>) -> String {
        let words = line.split(' ').map(str::to_owned).collect();
        place_url(words, variable.map(str::to_owned), &["bench", "compactor"]).unwrap().join(" ")
    }

    #[test]
    fn the_url_goes_right_after_the_verb_wherever_it_was_said() {
        assert_eq!(placed("esker get s3://b k", None), "esker get s3://b k");
        assert_eq!(placed("esker get k --url s3://b", None), "esker get s3://b k");
        assert_eq!(placed("esker --url=s3://b get k", None), "esker get s3://b k");
        assert_eq!(placed("esker get k", Some("s3://b")), "esker get s3://b k");
        assert_eq!(placed("esker get k --url s3://c", Some("s3://b")), "esker get s3://c k");
    }

    #[test]
    fn a_url_among_the_words_wins_over_the_variable() {
        for line in [
            "esker delete file:///a k",
            "esker get s3://b k",
            "esker get s3a://b k",
            "esker scan --limit 5 file:///a",
        ] {
            assert_eq!(placed(line, Some("s3://c")), line);
        }
        // The value of an option is not what the verb is about, and after two dashes anything is a key.
        assert_eq!(placed("esker repair --from s3://a", Some("s3://c")), "esker repair s3://c --from s3://a");
        assert_eq!(placed("esker get -- s3://a", Some("s3://c")), "esker get s3://c -- s3://a");
        assert_eq!(placed("esker get http://a", Some("s3://c")), "esker get s3://c http://a");
        assert_eq!(placed("esker put s3://a v --url s3://b", Some("s3://c")), "esker put s3://b s3://a v");
    }

    #[test]
    fn a_folder_with_a_database_is_not_taken_for_a_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("DB"), "").unwrap();
        let path = folder.path().display().to_string();
        let words = ["esker", "delete", &path, "k"].map(str::to_owned).to_vec();
        let stop = place_url(words.clone(), Some("s3://c".into()), &[]).unwrap_err();
        assert!(stop.to_string().contains(&path) && stop.to_string().contains("s3://c"), "{stop}");
        assert_eq!(place_url(words.clone(), None, &[]).unwrap(), words);
    }

    #[test]
    fn words_after_two_dashes_and_the_doors_are_left_alone() {
        assert_eq!(placed("esker get s3://b -- --url", None), "esker get s3://b -- --url");
        assert_eq!(
            placed("esker compactor --url s3://b --once", Some("s3://c")),
            "esker compactor --url s3://b --once"
        );
        assert_eq!(placed("esker --help", Some("s3://c")), "esker --help");
    }
}
