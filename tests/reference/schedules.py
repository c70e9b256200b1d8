#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes schedules.txt: learning rates and momenta as PyTorch, timm and transformers give them.

usage: schedules.py > schedules.txt      with torch, timm and transformers installed

A line "curve NAME" begins a curve; the next lines hold its values, one for each update from 0. The
tests name the curves and hold the options that belong to them.
"""

import warnings

import timm
import torch
import transformers
from timm.scheduler import CosineLRScheduler, PolyLRScheduler
from torch.optim import lr_scheduler as schedulers

UPDATES = 48
RATE = 0.3


def optimizer(kind=torch.optim.SGD, rate=RATE):
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def write(name, values):
    print("curve", name)
    for value in values:
        print(f"{value:.17g}")


def momentum(group):
    return group["betas"][0] if "betas" in group else group["momentum"]


def torch_curve(name, make, updates=UPDATES, kind=torch.optim.SGD, with_momentum=False):
    of = optimizer(kind)
    scheduler = make(of)
    rates, momenta = [], []
    for update in range(updates):
        rates.append(of.param_groups[0]["lr"])
        momenta.append(momentum(of.param_groups[0]))
        of.step()
        if update + 1 < updates:
            scheduler.step()
    write(name, rates)
    if with_momentum:
        write(name + "_momentum", momenta)


def timm_curve(name, make, updates=UPDATES):
    of = optimizer()
    scheduler = make(of)
    rates = []
    for update in range(updates):
        scheduler.step_update(update)
        rates.append(of.param_groups[0]["lr"])
    write(name, rates)


def cosines():
    torch_curve("torch_cosine", lambda of: schedulers.CosineAnnealingLR(of, T_max=UPDATES, eta_min=0.02))
    torch_curve("transformers_cosine", lambda of: transformers.get_cosine_schedule_with_warmup(of, 8, UPDATES))
    torch_curve("transformers_cosine_ratio",
                lambda of: transformers.get_cosine_with_min_lr_schedule_with_warmup(of, 8, UPDATES, min_lr_rate=0.1))
    timm_curve("timm_cosine",
               lambda of: CosineLRScheduler(of, t_initial=36, lr_min=0.01, warmup_t=8, warmup_lr_init=0.001,
                                            warmup_prefix=True, t_in_epochs=False))
    for k in (0.5, 1.7):
        timm_curve(f"timm_cosine_k_decay_{k}",
                   lambda of: CosineLRScheduler(of, t_initial=40, lr_min=0.01, warmup_t=8, warmup_prefix=True,
                                                k_decay=k, t_in_epochs=False))


def polynomials():
    torch_curve("transformers_linear", lambda of: transformers.get_linear_schedule_with_warmup(of, 8, UPDATES))
    torch_curve("torch_linear",
                lambda of: schedulers.LinearLR(of, start_factor=1.0, end_factor=0.1, total_iters=UPDATES - 4))
    torch_curve("transformers_polynomial",
                lambda of: transformers.get_polynomial_decay_schedule_with_warmup(of, 8, UPDATES, lr_end=0.01, power=2.5))
    torch_curve("torch_polynomial", lambda of: schedulers.PolynomialLR(of, total_iters=UPDATES - 4, power=0.5))
    timm_curve("timm_polynomial",
               lambda of: PolyLRScheduler(of, t_initial=40, power=0.9, lr_min=0.01, warmup_t=8, warmup_lr_init=0.001,
                                          warmup_prefix=True, t_in_epochs=False))


def wsds():
    for shape in ("linear", "cosine", "1-sqrt"):
        torch_curve(f"transformers_wsd_{shape}",
                    lambda of: transformers.get_wsd_schedule(of, 8, 12, num_training_steps=UPDATES - 4,
                                                             decay_type=shape, min_lr_ratio=0.1))


def one_cycles():
    for name, options in {
        "cosine": {},
        "linear": {"anneal_strategy": "linear", "pct_start": 0.4, "div_factor": 10, "final_div_factor": 100},
        "three_phases": {"three_phase": True, "pct_start": 0.35, "base_momentum": 0.8, "max_momentum": 0.9},
    }.items():
        for kind in (torch.optim.SGD, torch.optim.AdamW) if name == "cosine" else (torch.optim.SGD,):
            torch_curve(f"torch_one_cycle_{name}_{kind.__name__}",
                        lambda of: schedulers.OneCycleLR(of, max_lr=RATE, total_steps=UPDATES, **options),
                        kind=kind, with_momentum=True)
    torch_curve("torch_one_cycle_short", lambda of: schedulers.OneCycleLR(of, max_lr=RATE, total_steps=3), updates=3,
                with_momentum=True)


def others():
    torch_curve("torch_step", lambda of: schedulers.StepLR(of, step_size=7, gamma=0.3))
    torch_curve("torch_multi_step", lambda of: schedulers.MultiStepLR(of, milestones=[5, 6, 20], gamma=0.5))
    torch_curve("transformers_inverse_sqrt", lambda of: transformers.get_inverse_sqrt_schedule(of, 8))
    torch_curve("transformers_inverse_sqrt_timescale",
                lambda of: transformers.get_inverse_sqrt_schedule(of, 8, timescale=20))
    torch_curve("transformers_inverse_sqrt_cold", lambda of: transformers.get_inverse_sqrt_schedule(of, 0))
    torch_curve("torch_sequential",
                lambda of: schedulers.SequentialLR(
                    of, [schedulers.StepLR(of, 4, 0.5), schedulers.CosineAnnealingLR(of, T_max=UPDATES - 10)], [10]))


# Better, worse, a little better, flat: all that a plateau's counters can meet. No negative values.
METRIC = [1.0, 0.9, 0.9, 0.89999, 0.95, 0.9, 0.8, 0.8, 0.81, 0.805, 0.82, 0.83, 0.7999, 0.84, 0.8, 0.8, 0.8, 0.7,
          0.71, 0.72, 0.73, 0.74, 0.6999, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75]


def plateaus():
    write("plateau_metric", METRIC)
    for mode in ("min", "max"):
        for threshold_mode in ("rel", "abs"):
            of = optimizer()
            scheduler = schedulers.ReduceLROnPlateau(of, mode=mode, factor=0.4, patience=2, threshold=1e-3,
                                                     threshold_mode=threshold_mode, cooldown=1, min_lr=0.002)
            rates = []
            for value in METRIC:
                scheduler.step(value)
                rates.append(of.param_groups[0]["lr"])
            write(f"torch_plateau_{mode}_{threshold_mode}", rates)


def main():
    warnings.simplefilter("ignore")
    print(f"# written by schedules.py with torch {torch.__version__}, timm {timm.__version__}, "
          f"transformers {transformers.__version__}")
    cosines()
    polynomials()
    wsds()
    one_cycles()
    others()
    plateaus()


main()
