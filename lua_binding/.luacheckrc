std = "min"
max_line_length = 120
exclude_files = { "types", "tools/functions.lua" }
files["spec"] = { std = "min+busted" }
