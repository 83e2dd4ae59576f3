"""The command line of the consumers, one file per group of commands; `main` puts them together."""
