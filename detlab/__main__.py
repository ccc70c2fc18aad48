from detlab.cli import main

main()
