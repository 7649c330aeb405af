//! What people know of a row and no measurement says: what bounds it, and how far away the physical limit is.
//!
//! ```text
//! …whatever explains the file…
//! ## read-random
//! A sentence or two.
//! ```
//!
//! Always true: a section is named as its workload is, or `dollars`, `machine`, `scale`; what stands before the first one is not shown.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

/// Sections, by workload.
#[derive(Debug, Default)]
pub(crate) struct Bounds(BTreeMap<String, String>);

impl Bounds {
    /// Reads a file; one that is not there has no sections.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).with_context(|| format!("in {}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut sections = BTreeMap::new();
        for section in format!("\n{text}").split("\n## ").skip(1) {
            let (name, words) = section.split_once('\n').unwrap_or((section, ""));
            let name = name.trim().trim_matches('`').to_owned();
            let is_new = sections.insert(name.clone(), words.trim().to_owned()).is_none();
            ensure!(is_new, "there are two sections `{name}`");
        }
        Ok(Self(sections))
    }

    /// What is said of a workload.
    pub(crate) fn of(&self, workload: &str) -> Option<&str> {
        self.0.get(workload).map(String::as_str).filter(|words| !words.is_empty())
    }

    /// Sections that are about none of these.
    pub(crate) fn about_others<'a>(&'a self, workloads: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(|name| !workloads.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_workload_and_the_rest_is_left() {
        let bounds = Bounds::parse(
            "# About\nwords\n## scan\n\nThe copy.\n### How\nmore\n\n## `fill`\nThe index.\n## open\n",
        )
        .unwrap();
        assert_eq!(bounds.of("scan"), Some("The copy.\n### How\nmore"));
        assert_eq!(bounds.of("fill"), Some("The index."));
        assert_eq!((bounds.of("open"), bounds.of("# About")), (None, None));
        assert_eq!(bounds.about_others(&["scan", "open"]).collect::<Vec<_>>(), ["fill"]);
        assert_eq!(Bounds::parse("## scan\nfirst").unwrap().of("scan"), Some("first"));
    }

    #[test]
    fn a_workload_has_one_section_and_a_file_that_is_not_there_none() {
        assert!(Bounds::parse("## scan\na\n## scan\nb").unwrap_err().to_string().contains("scan"));
        assert!(Bounds::read(Path::new("no/such/file")).unwrap().of("scan").is_none());
    }
}
