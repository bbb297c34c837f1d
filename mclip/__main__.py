from mclip.cli import run

run()
