//! URLs: what opens, what is refused and how, and what is never shown.

use crate::{
    clock::SystemClock,
    error::{Error, ErrorKind},
    store::{Name, Store},
};

fn open(url: &str) -> Result<Store, Error> {
    Store::open(url, SystemClock::shared())
}

#[test]
fn paths_and_file_urls_are_directories() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(open("file:///tmp/a%20b").unwrap().url(), "file:///tmp/a b");
    assert_eq!(open("/tmp/plain").unwrap().url(), "file:///tmp/plain");
    assert_eq!(open("relative/db").unwrap().url(), format!("file://{}/relative/db", here.display()));
    assert!(!here.join("relative").exists(), "opening must not create anything");
}

#[test]
fn a_path_may_go_up_where_there_is_something_to_go_up_from() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("sub")).unwrap();
    let up = format!("{}/sub/../db", real.display());
    assert_eq!(open(&up).unwrap().url(), format!("file://{}/db", real.display()));
    let nowhere = format!("{}/missing/../db", real.display());
    assert_eq!(open(&nowhere).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn an_object_lies_under_the_prefix() {
    let store = open("memory://n/a/b/").unwrap();
    assert_eq!(store.place.location(&Name::Identity).unwrap().as_ref(), "a/b/DB");
    let store = open("memory://n").unwrap();
    assert_eq!(store.place.location(&Name::Identity).unwrap().as_ref(), "DB");
    let outside = Name::Checkpoint("../x".into());
    assert_eq!(store.place.location(&outside).unwrap_err().kind(), ErrorKind::Invalid);
}

#[cfg(feature = "s3")]
#[test]
fn secrets_are_shown_nowhere() {
    let canary = "CANARY+secret/7";
    let url = "s3://bucket/some/prefix?endpoint=http://127.0.0.1:9000&region=eu-1\
               &access_key_id=CANARY-id&secret_access_key=CANARY%2Bsecret/7&session_token=CANARY-token";
    let store = open(url).unwrap();
    assert_eq!(store.url(), "s3://bucket/some/prefix?endpoint=http://127.0.0.1:9000&region=eu-1");
    assert!(!format!("{store:?}").contains("CANARY"));
    assert_eq!(store.place.without_secrets(&format!("it said {canary}!")), "it said [secret]!");
    for wrong in [
        url.replace("region", "regoin"),
        url.replace("http:", "ftp:"),
        url.replace("127.0.0.1", "10.0.0.1"),
        url.replace("s3://", "s3://CANARY:CANARY@"),
        url.replace("s3://", "s4://"),
        format!("{url}&secret_access_key=CANARY2"),
        format!("{url}&allow_http=CANARY"),
        url.replace("http://", "http://CANARY:CANARY@"),
    ] {
        let error = open(&wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
}

#[cfg(feature = "s3")]
#[test]
fn plain_http_needs_a_loopback_host_or_a_word() {
    let with = |endpoint: &str, more: &str| {
        open(&format!("s3://b?endpoint={endpoint}&access_key_id=a&secret_access_key=b{more}"))
    };
    for local in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "https://10.0.0.1"] {
        assert!(with(local, "").is_ok(), "{local}");
    }
    let error = with("http://10.0.0.1:9000", "").unwrap_err();
    assert!(error.to_string().contains("allow_http=true"), "{error}");
    assert!(with("http://10.0.0.1:9000", "&allow_http=true").is_ok());
    assert!(with("http://localhost.example.com", "").is_err());
}

#[cfg(feature = "s3")]
#[test]
fn an_unknown_parameter_suggests_the_nearest() {
    let error = open("s3://b?endpont=http://127.0.0.1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("did you mean endpoint?"), "{error}");
}

#[test]
fn a_wrong_url_says_what_would_be_right() {
    for (url, words) in [
        ("s33://bucket", "did you mean s3://"),
        ("", "the URL is empty"),
        ("memory://a?x=1", "takes no parameters"),
        ("file://relative/x", "three slashes"),
        ("file:///x?fsync=off", "takes no parameters"),
        ("memory://a/../b", "prefix"),
    ] {
        let error = open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
    assert!(open("Cargo.toml").unwrap_err().to_string().contains("is a file"));
}

#[cfg(feature = "s3")]
#[test]
fn a_cloud_url_without_its_pieces_is_refused() {
    for (url, words) in [
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://b?region=", "is empty"),
        ("s3://b?region=a&region=b", "twice"),
        ("s3://b?access_key_id=only", "only one of"),
        ("s3://b?endpoint=nonsense", "is not a URL"),
        ("s3://b?endpoint=http://h?x=1", "has parameters"),
    ] {
        let error = open(url).unwrap_err();
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
}

#[cfg(not(feature = "gcs"))]
#[test]
fn a_scheme_that_is_not_built_in_names_its_feature() {
    let error = open("gs://bucket").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`gcs`"), "{error}");
}
