from neurcomp_cli.main import main

main()
