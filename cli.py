from p2pfl.__main__ import main

if __name__ == "__main__":
    main()
