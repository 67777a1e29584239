#!/usr/bin/env python3
"""The job of fashion.py in PyTorch (Debian's python3-torch), one thread: gradual magnitude pruning by masks on dense
tensors, then one epoch with fake-quantized weights and activations. Arguments: data folder, final sparsity, epochs."""
import gzip
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
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

    def forward(self, x):
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(y + self.short(x))


def network():
    return nn.Sequential(nn.Conv2d(1, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), Block(24, 24, 1),
                         Block(24, 48, 2), Block(48, 144, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(144, 10))


def augment(x):
    """Random flip and a shift of up to two pixels, a batch at a time."""
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
    x = F.pad(x, (2, 2, 2, 2))
    i, j = np.random.randint(0, 5, 2)
    return x[:, :, i:i + 28, j:j + 28]


class FakeQuant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        s = w.abs().amax(dim=tuple(range(1, w.dim())), keepdim=True).clamp_min(1e-8) / 127
        return (w / s).round().clamp(-127, 127) * s

    @staticmethod
    def backward(ctx, g):
        return g


def main():
    data, sparsity, epochs = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    (x, y), (tx, ty) = load(data, "train"), load(data, "t10k")
    net = network()
    weights = [m.weight for n, m in net.named_modules() if isinstance(m, nn.Conv2d)][1:]
    masks = [torch.ones_like(w) for w in weights]
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(x) // 128
    until, ramp = epochs - 1, (epochs - 1) * 0.4
    quant = False
    for step in range(steps * epochs):
        t = step / steps
        if step % steps == 0:
            order = torch.randperm(len(x))
        lr = 0.0005 + (0.1 - 0.0005) * (1 + math.cos(math.pi * min(t / until, 1))) / 2 if t < until else 0.002
        for g in opt.param_groups:
            g["lr"] = lr
        if t <= ramp + 0.1 and step % (steps // 10) == 0:
            s = 0.5 + (sparsity - 0.5) * (1 - (1 - min(t / ramp, 1)) ** 3)
            flat = torch.cat([(w * m).abs().flatten() for w, m in zip(weights, masks)])
            cut = flat.kthvalue(max(1, int(s * len(flat)))).values
            with torch.no_grad():
                for w, m in zip(weights, masks):
                    m.copy_((w.abs() > cut).float())
                    w.mul_(m)
        if t >= until and not quant:
            quant = True
            for m in net.modules():
                if isinstance(m, nn.Conv2d):
                    nn.utils.parametrize.register_parametrization(m, "weight", Quant())
        i = order[step % steps * 128:step % steps * 128 + 128]
        loss = F.cross_entropy(net(augment(x[i].float() / 255)), y[i])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        if not quant:
            for w, m in zip(weights, masks):
                w.grad.mul_(m)
        opt.step()
        if not quant:
            with torch.no_grad():
                for w, m in zip(weights, masks):
                    w.mul_(m)
    net.eval()
    with torch.no_grad():
        right = sum(int((net(tx[k:k + 500].float() / 255).argmax(1) == ty[k:k + 500]).sum()) for k in range(0, 10000, 500))
    print(f"{right / 10000:.4f} from random weights in {epochs} epochs, {time.process_time():.0f} s in the process")


class Quant(nn.Module):
    def forward(self, w):
        return FakeQuant.apply(w)


if __name__ == "__main__":
    import torch.nn.utils.parametrize  # noqa: F401
    main()
