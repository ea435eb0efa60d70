# mypy: ignore-errors
"""What TenSEAL does for tenseal_ckks.py, in an environment that has TenSEAL and need not have p2pfl.

One process for each site and one for the server: the sites encrypt and serialise at once, the server reads, adds and
serialises, the sites read and decrypt. The key is the sites' common one, as CKKS without a threshold variant needs it.
Prints one JSON list: for each round the seconds, the processor seconds of all, and the bytes up and down.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time

import numpy as np
import tenseal


def context(degree, bits, scale):
    """Keys and parameters; `scale` in bits."""
    made = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=bits, n_threads=1)
    made.global_scale = 2**scale
    return made


def site(number, words, secret, pipe):
    """Answers each word of the server: the ciphertexts of a vector; then whether the decrypted sum is right."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # TenSEAL warns there that a long vector cannot be multiplied
    os.dup2(1, 2)
    held = tenseal.context_from(secret, n_threads=1)
    vector = np.random.default_rng(number).uniform(-1, 1, words)
    pipe.send("ready")
    while pipe.recv():
        spent = time.process_time()
        pipe.send_bytes(tenseal.ckks_vector(held, vector).serialize())
        total = tenseal.ckks_vector_from(held, pipe.recv_bytes()).decrypt()
        pipe.send(time.process_time() - spent)
        pipe.send(np.asarray(total))


def one_round(pipes, public):
    """Ciphertexts in, their sum out."""
    spent, begun = time.process_time(), time.perf_counter()
    for pipe in pipes:
        pipe.send(True)
    total, up = None, 0
    for pipe in pipes:
        data = pipe.recv_bytes()
        up += len(data)
        vector = tenseal.ckks_vector_from(public, data)
        total = vector if total is None else total + vector
    data = total.serialize()
    for pipe in pipes:
        pipe.send_bytes(data)
    sites = [pipe.recv() for pipe in pipes]
    told = {"s": time.perf_counter() - begun, "cpu_s": time.process_time() - spent + sum(sites)}
    sums = [pipe.recv() for pipe in pipes]
    return {**told, "bytes": up + len(data) * len(pipes)}, sums


def main():
    parser = argparse.ArgumentParser()
    for name in ("peers", "words", "rounds", "degree", "scale"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--bits", required=True)
    given = parser.parse_args()
    made = context(given.degree, [int(each) for each in given.bits.split(",")], given.scale)
    secret = made.serialize(save_secret_key=True)
    made.make_context_public()
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(given.peers):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=site, args=(number, given.words, secret, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    expected = sum(np.random.default_rng(number).uniform(-1, 1, given.words) for number in range(given.peers))
    rounds = []
    for turn in range(given.rounds + 1):
        told, sums = one_round(pipes, made)
        told["worst"] = max(float(np.abs(each - expected).max()) for each in sums)
        if turn:  # the first warms up
            rounds.append(told)
    for pipe in pipes:
        pipe.send(False)
    for process in processes:
        process.join()
    print(json.dumps({"rounds": rounds, "version": tenseal.__version__}))


if __name__ == "__main__":
    sys.exit(main())
