from p2pfl.cli.main import main

if __name__ == "__main__":
    main()
