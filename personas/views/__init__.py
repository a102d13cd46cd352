"""Pages of personas, their tools, flows and runs."""
