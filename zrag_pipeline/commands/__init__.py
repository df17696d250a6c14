"""The commands of `zrag`, one module each: `register(commands)` adds it to the parser, `run(arguments)` is called."""
