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
fn a_byte_order_mark_is_no_part_of_a_row() {
    assert_eq!(jsonl("\u{FEFF}{\"key\":\"a\",\"value\":\"1\"}\n", &[]).unwrap(), [row("a", "1")]);
    assert!(jsonl("{\"key\":\"a\",\"value\":\"1\"}\n\u{FEFF}{}", &[]).is_err(), "in the middle it is none");
    assert_eq!(guess("rows.txt", b"\xEF\xBB\xBF{\"a\":1}").unwrap(), Format::Jsonl);
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
        (
            "{\"key\":\"a\",\"value\":\"\",\"keyspace\":\"\"}",
            "rows.jsonl, line 1: a keyspace's name of 0 bytes",
        ),
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
fn a_quote_that_is_never_closed_is_an_error_at_its_line() {
    for (text, line) in [
        ("id,x\n1,2\n3,\"four\n5,6\n", 3),
        ("id,x\n1,\"2", 2),
        ("id,x\n1,\"2\"\"", 2),
        ("id,\"x\n1,2\n", 1),
        ("\u{feff}\"id,x\n1,2\n", 1),
    ] {
        let error = csv(text, &["id"], None).unwrap_err().to_string();
        assert_eq!(error, format!("rows.csv, line {line}: a quote is opened in this row and never closed"));
    }
    for (text, value) in [
        ("id,x\n1,\"2\"", "2"),
        ("id,x\n1,\"\"\"2\"\"\"\n", "\"2\""),
        ("id,x\n1,5\" disk\n", "5\" disk"),
        ("\u{feff}\"id\",x\r\n1,\"2\" \"\r\n", "2 \""),
    ] {
        assert_eq!(csv(text, &["id"], Some("x")).unwrap(), [row("1", value)], "{text:?}");
    }
}

#[test]
fn two_columns_of_one_name_are_an_error_at_the_header() {
    for text in ["id,x,x\n1,2,3\n", "id,id\n", "id,x, x\n"] {
        let error = csv(text, &["id"], None).unwrap_err().to_string();
        assert!(error.contains("rows.csv, line 1: two columns are named"), "{error}");
    }
}

#[test]
fn a_load_that_stopped_claims_only_what_is_durable() {
    for (rows, durable, expected) in [
        (0, 0, "loading stopped before the first row was in the database"),
        (1, 1, "loading stopped after 1 row, which is in the database"),
        (3000, 3000, "loading stopped after 3,000 rows, which are in the database"),
        (3000, 0, "loading stopped: no row is known to be durable, the rows are not all in the database"),
        (3000, 1, "loading stopped: the first row is durable, what came after is not all in the database"),
        (
            3000,
            2000,
            "loading stopped: the first 2,000 rows are durable, what came after is not all in the database",
        ),
    ] {
        assert_eq!(stopped(rows, durable), expected);
    }
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
    assert_eq!(guess("-", b"").unwrap(), Format::Jsonl);
}
