"""The bench behind `p2pet-cli bench`; needs the p2petd package on this machine. Its rows: docs/benchmarks.md."""
