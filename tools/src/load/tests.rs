//! Each format, from bytes in memory to rows.

use std::io::{Cursor, Write as _};

use super::*;

fn all(mut rows: Rows) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(record) = rows.next()? {
        records.push(record);
    }
    Ok(records)
}

fn jsonl(text: &'static str, key: &[&str]) -> Result<Vec<Record>> {
    let key: Vec<String> = key.iter().map(|k| (*k).to_owned()).collect();
    all(Rows::Jsonl(jsonl::Lines::new(Box::new(Cursor::new(text)), "rows.jsonl".into(), &key)))
}

fn csv(text: &'static str, key: &[&str], value: Option<&str>) -> Result<Vec<Record>> {
    let key: Vec<String> = key.iter().map(|k| (*k).to_owned()).collect();
    all(Rows::Csv(csv::Table::new(Box::new(Cursor::new(text)), "rows.csv".into(), &key, value)?))
}

fn deb(text: &'static str) -> Result<Vec<Record>> {
    all(Rows::Deb(deb::Stanzas::new(Box::new(Cursor::new(text)), "Packages".into())))
}

fn row(key: &str, value: &str) -> Record {
    Record { keyspace: None, key: key.into(), value: value.into(), expire_at_ms: 0 }
}

#[test]
fn an_exported_line_gives_back_its_keyspace_bytes_and_expiry() {
    let text = "{\"keyspace\":\"k\",\"key\":\"a\\u0000\",\"value_hex\":\"00ff\",\"seq\":9,\"expire_at_ms\":5}\n\n{\"key\":\"b\",\"value\":\"\"}";
    let expected = vec![
        Record { keyspace: Some("k".into()), key: b"a\0".to_vec(), value: vec![0, 255], expire_at_ms: 5 },
        row("b", ""),
    ];
    assert_eq!(jsonl(text, &[]).unwrap(), expected);
}

#[test]
fn any_object_is_a_row_when_its_key_field_is_named() {
    let rows = jsonl("{\"id\": 7, \"at\": \"x\"}\r\n{\"id\":8,\"at\":\"y\"}\n", &["id", "at"]).unwrap();
    assert_eq!(rows, [row("7/x", "{\"id\": 7, \"at\": \"x\"}"), row("8/y", "{\"id\":8,\"at\":\"y\"}")]);
}

#[test]
fn a_bad_line_is_named_by_file_and_number() {
    for (text, expected) in [
        ("{\"key\":\"a\",\"value\":\"b\"}\n{\"key\":", "rows.jsonl, line 2: EOF"),
        ("{\"key\":\"a\"}", "rows.jsonl, line 1: neither \"value\" nor \"value_hex\""),
        ("{\"key\":\"a\",\"key_hex\":\"00\",\"value\":\"\"}", "both \"key\" and \"key_hex\""),
        ("{\"key_hex\":\"0\",\"value\":\"\"}", "\"key_hex\" is not hex"),
        ("{\"id\":1}", "unknown field `id`"),
    ] {
        let error = jsonl(text, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} does not say {expected}");
    }
    assert!(
        jsonl("{\"id\":null}", &["id"]).unwrap_err().to_string().contains("line 1: the key field \"id\"")
    );
    assert!(
        deb("Package: a\nVersion: 1\n\n")
            .unwrap_err()
            .to_string()
            .contains("Packages, line 1: the stanza has no Architecture")
    );
    assert!(csv("id,x\n1,2\n3\n", &["id"], None).unwrap_err().to_string().contains("rows.csv, line 3"));
}

#[test]
fn a_csv_row_becomes_an_object_or_one_column() {
    let text = "id,name\n1,\"A, B\"\n2,\"two\nlines\"\n";
    assert_eq!(
        csv(text, &["id"], None).unwrap(),
        [row("1", r#"{"id":"1","name":"A, B"}"#), row("2", r#"{"id":"2","name":"two\nlines"}"#)]
    );
    assert_eq!(csv(text, &["id"], Some("name")).unwrap(), [row("1", "A, B"), row("2", "two\nlines")]);
    assert!(csv(text, &[], None).unwrap_err().to_string().contains("--key"));
    assert!(csv(text, &["nope"], None).unwrap_err().to_string().contains("no column \"nope\""));
}

#[test]
fn stanzas_keep_their_exact_bytes() {
    let text = "\nPackage: a\nVersion: 1:2-3\nArchitecture: all\nDescription: x\n  more\n .\n\n\nPackage: b\nArchitecture: amd64\nVersion: 2";
    assert_eq!(
        deb(text).unwrap(),
        [
            row("a/1:2-3/all", "Package: a\nVersion: 1:2-3\nArchitecture: all\nDescription: x\n  more\n .\n"),
            row("b/2/amd64", "Package: b\nArchitecture: amd64\nVersion: 2"),
        ]
    );
}

#[test]
fn every_compression_is_known_by_its_first_bytes() {
    let plain = b"{\"key\":\"a\",\"value\":\"b\"}\n".repeat(1000);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let packed = [
        plain.clone(),
        gz.finish().unwrap(),
        lz4.finish().unwrap(),
        xz.finish().unwrap(),
        zstd::stream::encode_all(&plain[..], 1).unwrap(),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (at, bytes) in packed.iter().enumerate() {
        // Twice in a row: members that follow each other are one file.
        let path = folder.path().join(format!("rows-{at}"));
        std::fs::write(&path, bytes.repeat(2)).unwrap();
        let source = Source {
            file: path.to_str().unwrap().to_owned(),
            format: Format::Auto,
            key: vec![],
            value: None,
            keyspace: range::DEFAULT.to_owned(),
        };
        let (rows, input) = Rows::open(&source).unwrap();
        assert_eq!(all(rows).unwrap().len(), 2000, "packing {at}");
        assert_eq!(input.read_bytes(), bytes.len() as u64 * 2, "packing {at}");
    }
}

#[test]
fn the_format_is_told_by_content_then_by_name() {
    assert_eq!(guess("x", b"PAR1....").unwrap(), Format::Parquet);
    assert_eq!(guess("-", b"  {\"a\":1}").unwrap(), Format::Jsonl);
    assert_eq!(guess("-", b"Package: a\n").unwrap(), Format::Deb);
    assert_eq!(guess("a.csv.gz", b"id,x\n").unwrap(), Format::Csv);
    assert_eq!(guess("deb.org_main_Packages.lz4", b"").unwrap(), Format::Deb);
    assert!(guess("notes.txt", b"hello").is_err());
}
