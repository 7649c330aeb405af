//! Writes the seeds of every target into `corpus/`: its own, the golden files, and inputs that once failed.

use std::{fs, path::Path};

use esker::testing::hostile::{SEAL, TARGETS};

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut written = 0;
    for target in TARGETS {
        let corpus = here.join("corpus").join(target.name);
        fs::create_dir_all(&corpus)?;
        let mut inputs = (target.seeds)();
        for file in fs::read_dir(here.join("../tests/golden"))? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let name = name.replace("manifest_part", "part").replace("checkpoint", "pin");
            if name.starts_with(target.name) {
                let object = fs::read(file.path())?;
                inputs.extend([0, SEAL].map(|flags| [&[flags][..], &object].concat()));
            }
        }
        for file in fs::read_dir(here.join("../tests/hostile"))? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(target.name) {
                inputs.push(fs::read(file.path())?);
            }
        }
        for (at, input) in inputs.iter().enumerate() {
            fs::write(corpus.join(format!("seed-{at:03}")), input)?;
        }
        written += inputs.len();
    }
    println!("{written} seeds in {}", here.join("corpus").display());
    Ok(())
}
