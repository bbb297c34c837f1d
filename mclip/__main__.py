from mclip.cli import main

main()
