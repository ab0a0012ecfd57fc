"""The characters at which some reader of lines ends a line."""

LINE_ENDS = [
    chr(code) for code in range(0x3000) if len(f"a{chr(code)}b".splitlines()) > 1
]
NAMES = [f"U+{ord(end):04X}" for end in LINE_ENDS]
