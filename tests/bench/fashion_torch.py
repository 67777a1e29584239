#!/usr/bin/env python3
"""One job of fashion.py in PyTorch (Debian's python3-torch), one thread: gradual magnitude pruning by masks on dense
tensors, in the last epoch fake-quantized weights and activations. Prints JSON: accuracy, CPU seconds by epoch.

    /usr/bin/python3 tests/bench/fashion_torch.py DATA BASE.npz SPARSITY EPOCHS

BASE.npz: the dense network's tensors in the graph's order. SPARSITY 0: dense to the end, no INT8."""
import gzip
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrize as parametrize
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1)


def load(data, which):
    x = np.frombuffer(gzip.open(f"{data}/{which}-images-idx3-ubyte.gz").read(), np.uint8)[16:].reshape(-1, 1, 28, 28)
    y = np.frombuffer(gzip.open(f"{data}/{which}-labels-idx1-ubyte.gz").read(), np.uint8)[8:]
    return torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if i != o else nn.Identity()
        self.q1, self.q2 = nn.Identity(), nn.Identity()

    def forward(self, x):
        y = self.b2(self.c2(self.q1(F.relu(self.b1(self.c1(x))))))
        return self.q2(F.relu(y + self.short(x)))


def network(base):
    net = nn.Sequential(nn.Conv2d(1, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.Identity(),
                        Block(24, 24, 1), Block(24, 48, 2), Block(48, 144, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(144, 10))
    held = np.load(base)
    names = iter(sorted(held.files))
    for m in net.modules():
        for part in (("weight", "bias") if isinstance(m, nn.Linear) else ("weight",) if isinstance(m, nn.Conv2d) else
                     ("weight", "bias", "running_mean", "running_var") if isinstance(m, nn.BatchNorm2d) else ()):
            with torch.no_grad():
                getattr(m, part).copy_(torch.from_numpy(held[next(names)].copy()))
    return net


def picture(x):
    return (x.float() / 255 - 0.2) / 0.35


def augment(x):
    """Random flip and a shift of up to two pixels (one shift for the batch, which is cheaper than ours)."""
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
    x = F.pad(x, (2, 2, 2, 2))
    i, j = np.random.randint(0, 5, 2)
    return x[:, :, i:i + 28, j:j + 28]


class Round(torch.autograd.Function):
    """Straight through."""
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class QuantWeight(nn.Module):
    def forward(self, w):
        s = w.detach().abs().amax(dim=tuple(range(1, w.dim())), keepdim=True).clamp_min(1e-8) / 127
        return Round.apply(w / s).clamp(-127, 127) * s


class QuantAct(nn.Module):
    """u8 by a moving average of the largest value seen: what it takes in, after ReLU, has no negative."""
    def __init__(self):
        super().__init__()
        self.top = None

    def forward(self, x):
        if self.training:
            top = float(x.detach().amax())
            self.top = top if self.top is None else 0.99 * self.top + 0.01 * top
        s = max(self.top, 1e-8) / 255
        return Round.apply(x / s).clamp(0, 255) * s


def quantize(net):
    for m in list(net.modules()):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            parametrize.register_parametrization(m, "weight", QuantWeight())
        if isinstance(m, Block):
            m.q1, m.q2 = QuantAct(), QuantAct()
    net[3] = QuantAct()


def originals(convs):
    return [m.parametrizations.weight.original if parametrize.is_parametrized(m) else m.weight for m in convs]


def main():
    data, base, sparsity, epochs = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    (x, y), (tx, ty) = load(data, "train"), load(data, "t10k")
    x, y = x[:-2000], y[:-2000]  # ours sets as many aside
    net = network(base)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)][1:]
    masks = [torch.ones_like(m.weight) for m in convs]
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(x) // 128
    until = epochs - 1 if sparsity else epochs
    ramp, at, by_epoch = until * 0.4, time.process_time(), []
    for step in range(steps * epochs):
        t = step / steps
        if step % steps == 0:
            order = torch.randperm(len(x))
        lr = 0.0005 + (0.1 - 0.0005) * (1 + math.cos(math.pi * t / until)) / 2 if t < until else 0.0025
        for g in opt.param_groups:
            g["lr"] = lr
        if sparsity and t <= ramp + 0.1 and step % (steps // 10) == 0:
            s = 0.5 + (sparsity - 0.5) * (1 - (1 - min(t / ramp, 1)) ** 3)
            flat = torch.cat([(m.weight * k).abs().flatten() for m, k in zip(convs, masks)])
            cut = flat.kthvalue(max(1, int(s * len(flat)))).values
            with torch.no_grad():
                for m, k in zip(convs, masks):
                    k.copy_((m.weight.abs() > cut).float())
                    m.weight.mul_(k)
        if sparsity and step == steps * until:
            quantize(net)
        i = order[step % steps * 128:step % steps * 128 + 128]
        loss = F.cross_entropy(net(augment(picture(x[i]))), y[i])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        if sparsity:
            with torch.no_grad():
                for w, k in zip(originals(convs), masks):
                    w.mul_(k)
        if step % steps == steps - 1:
            by_epoch.append(round(time.process_time() - at, 1))
            at = time.process_time()
    net.eval()
    with torch.no_grad():
        right = sum(int((net(picture(tx[k:k + 500])).argmax(1) == ty[k:k + 500]).sum()) for k in range(0, 10000, 500))
    print(json.dumps({"version": torch.__version__, "accuracy": right / len(ty), "rows": len(x), "by_epoch": by_epoch}))


if __name__ == "__main__":
    main()
