"""``python -m bench.aot``: every Triton kernel compiled for GPUs that are not here, and what the compiler made of it.

Registers, spills, width of loads, barriers, shuffles and instructions per element of the main loop are read from the
machine code. They say nothing about time on a GPU, but a kernel that got a spill, a narrow load, a barrier in its loop
or a quarter more instructions shows here, on any machine.
"""
