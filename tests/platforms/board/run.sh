#!/bin/sh
# Runs a program on the emulated board; its console is this one.
exec qemu-system-arm -M mps2-an385 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$1"
