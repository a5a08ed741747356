//! Prints what more cores would give, predicted from costs in µs a task: `curve COSTS.json
//! [OUT.json]`. See `benches/curve/curve.rs`.

#[path = "../../benches/curve/curve.rs"]
pub mod curve;

/// Cores that are predicted for.
const CORES: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Virtual time that is measured.
const MEASURED_US: u64 = 200_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("usage: curve COSTS.json [OUT.json]");
    let text = std::fs::read_to_string(path).expect("a readable file");
    let costs: curve::Costs = serde_json::from_str(&text).expect("costs as `Costs` says");
    let predicted = curve::curve(&costs, &CORES, MEASURED_US);
    print!("{}", curve::table(&predicted));
    if let Some(path) = arguments.next() {
        let json = serde_json::json!({"costs": costs, "predicted": predicted});
        std::fs::write(path, format!("{json:#}\n")).expect("a writable file");
    }
}
