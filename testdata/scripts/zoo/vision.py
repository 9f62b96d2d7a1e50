"""Convolutional networks and ViT."""

from __future__ import annotations

import numpy
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .spec import Built, normalise, settle


class Logits(nn.Module):
    """A Hugging Face classifier reduced to its logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values=pixel_values).logits


def image(batch, channels, height, width):
    """Blots of colour under noise: noise alone looks the same to what averages over an image."""
    blots = nn.functional.interpolate(torch.randn(batch, channels, 5, 5), size=(height, width), mode="bilinear", align_corners=True)
    return blots + 0.3 * torch.randn(batch, channels, height, width)


def classifier(model, sizes):
    inputs = [{"pixel_values": image(*s)} for s in sizes]
    module = normalise(Logits(settle(model)), torch.cat([i["pixel_values"] for i in inputs]))
    return Built(module, inputs, ["logits"], {"pixel_values": {0: "batch"}})


def resnet50(small):
    if small:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], num_labels=10)
        return classifier(transformers.ResNetForImageClassification(config), [(2, 3, 33, 31), (1, 3, 33, 31), (3, 3, 33, 31)])
    config = transformers.ResNetConfig(num_labels=1000)  # the defaults are ResNet-50
    return classifier(transformers.ResNetForImageClassification(config), [(1, 3, 224, 224), (2, 3, 224, 224), (3, 3, 224, 224)])


def mobilenet_v2(small):
    config = transformers.MobileNetV2Config(num_labels=1001, tf_padding=False)
    side = 224
    if small:
        config.depth_multiplier, config.num_labels, side = 0.1, 10, 32
    sizes = [(b, 3, side, side) for b in (1, 2, 3)]
    return classifier(transformers.MobileNetV2ForImageClassification(config), sizes)


def vit(small):
    config = transformers.ViTConfig(num_labels=1000, attn_implementation="eager")
    side = 224
    if small:
        config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32,
                                        patch_size=8, num_labels=10, attn_implementation="eager")
        side = 32
    return classifier(transformers.ViTForImageClassification(config), [(b, 3, side, side) for b in (1, 2, 3)])


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with normalisation and ReLU."""

    def __init__(self, cin, cout):
        layers = []
        for a, b in ((cin, cout), (cout, cout)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Ronneberger et al. 2015 with batch normalisation and padding: 3x3 pairs, pooling down, transposed convolutions up."""

    def __init__(self, width, depth, classes):
        super().__init__()
        widths = [width << i for i in range(depth)]
        self.down = nn.ModuleList([ConvBlock(a, b) for a, b in zip([3] + widths, widths)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1])])
        self.join = nn.ModuleList([ConvBlock(2 * w, w) for w in reversed(widths[:-1])])
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, image):
        x, kept = image, []
        for i, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, reversed(kept[:-1])):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.last(x)


def unet(small):
    module = UNet(4, 3, 2) if small else UNet(32, 5, 21)
    sides = [(1, 16, 24), (2, 8, 16), (1, 32, 32)] if small else [(1, 256, 256), (2, 128, 192), (1, 64, 320)]
    inputs = [{"image": torch.randn(b, 3, h, w)} for b, h, w in sides]
    return Built(settle(module), inputs, ["mask"], {"image": {0: "batch", 2: "height", 3: "width"}})


class TimeBlock(nn.Module):
    """A residual block of a diffusion model: group normalisation, SiLU, and the time step added."""

    def __init__(self, cin, cout, time, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.time = nn.Linear(time, cout)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = h + self.time(nn.functional.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(nn.functional.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Self-attention over the pixels."""

    def __init__(self, width, groups, heads):
        super().__init__()
        self.norm, self.qkv, self.out, self.heads = nn.GroupNorm(groups, width), nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, c, h, w = x.shape
        y = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (t.reshape(b, h * w, self.heads, c // self.heads).transpose(1, 2) for t in self.qkv(y).chunk(3, dim=-1))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.out(y).transpose(1, 2).reshape(b, c, h, w)


class DiffusionUNet(nn.Module):
    """Noise prediction as in DDPM: residual blocks with a time embedding, attention at the bottom, nearest-neighbour upsampling."""

    def __init__(self, width, levels, groups, heads):
        super().__init__()
        time, widths = 4 * width, [width << i for i in range(levels)]
        self.register_buffer("frequencies", torch.exp(-torch.arange(width // 2) * (9.21 / (width // 2))))
        self.embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.down = nn.ModuleList([TimeBlock(a, b, time, groups) for a, b in zip([width] + widths, widths)])
        self.shrink = nn.ModuleList([nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1]])
        self.middle = PixelAttention(widths[-1], groups, heads)
        self.up = nn.ModuleList([TimeBlock(3 * w, w, time, groups) for w in reversed(widths[:-1])])
        self.norm, self.last = nn.GroupNorm(groups, width), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, sample, timestep):
        angle = timestep.float()[:, None] * self.frequencies[None]
        t = self.embed(torch.cat([angle.sin(), angle.cos()], dim=-1))
        x, kept = self.first(sample), []
        for i, block in enumerate(self.down):
            x = block(self.shrink[i - 1](x) if i else x, t)
            kept.append(x)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(kept[:-1])):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1), t)
        return self.last(nn.functional.silu(self.norm(x)))


def diffusion_unet(small):
    module = DiffusionUNet(8, 2, 2, 2) if small else DiffusionUNet(128, 3, 32, 8)
    side = 8 if small else 64
    inputs = [{"sample": torch.randn(b, 4, side, side), "timestep": torch.tensor([17 * (i + 1) for i in range(b)])} for b in (1, 2, 3)]
    return Built(settle(module), inputs, ["noise"], {"sample": {0: "batch"}, "timestep": {0: "batch"}})


def conv(cin, cout, k=1, s=1):
    return nn.Sequential(nn.Conv2d(cin, cout, k, s, (k - 1) // 2, bias=False), nn.BatchNorm2d(cout), nn.SiLU())


class Bottleneck(nn.Module):
    def __init__(self, c, add):
        super().__init__()
        self.a, self.b, self.add = conv(c, c), conv(c, c, 3), add

    def forward(self, x):
        y = self.b(self.a(x))
        return x + y if self.add else y


class CrossStage(nn.Module):
    """A cross-stage partial block with three convolutions."""

    def __init__(self, cin, cout, n, add=True):
        super().__init__()
        self.a, self.b, self.c = conv(cin, cout // 2), conv(cin, cout // 2), conv(cout, cout)
        self.m = nn.Sequential(*[Bottleneck(cout // 2, add) for _ in range(n)])

    def forward(self, x):
        return self.c(torch.cat([self.m(self.a(x)), self.b(x)], dim=1))


class Pyramid(nn.Module):
    """Spatial pyramid pooling: three poolings in a row, joined."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b, self.pool = conv(c, c // 2), conv(2 * c, c), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.a(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.b(torch.cat([x, y, z, self.pool(z)], dim=1))


class Detector(nn.Module):
    """A YOLOv5-style detector: backbone, path aggregation, three anchor-based heads, boxes decoded to corners."""

    strides = (8, 16, 32)
    anchors = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)], [(116, 90), (156, 198), (373, 326)]]

    def __init__(self, w, n, classes):
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(conv(3, w, 6, 2), conv(w, 2 * w, 3, 2), CrossStage(2 * w, 2 * w, n))
        self.p3 = nn.Sequential(conv(2 * w, 4 * w, 3, 2), CrossStage(4 * w, 4 * w, 2 * n))
        self.p4 = nn.Sequential(conv(4 * w, 8 * w, 3, 2), CrossStage(8 * w, 8 * w, 3 * n))
        self.p5 = nn.Sequential(conv(8 * w, 16 * w, 3, 2), CrossStage(16 * w, 16 * w, n), Pyramid(16 * w))
        self.t5, self.u4 = conv(16 * w, 8 * w), CrossStage(16 * w, 8 * w, n, False)
        self.t4, self.u3 = conv(8 * w, 4 * w), CrossStage(8 * w, 4 * w, n, False)
        self.d3, self.d4 = conv(4 * w, 4 * w, 3, 2), CrossStage(8 * w, 8 * w, n, False)
        self.d4b, self.d5 = conv(8 * w, 8 * w, 3, 2), CrossStage(16 * w, 16 * w, n, False)
        self.heads = nn.ModuleList([nn.Conv2d(c * w, 3 * (5 + classes), 1) for c in (4, 8, 16)])

    def forward(self, image):
        p3 = self.p3(self.stem(image))
        p4 = self.p4(p3)
        t5 = self.t5(self.p5(p4))
        t4 = self.t4(self.u4(torch.cat([nn.functional.interpolate(t5, scale_factor=2.0), p4], 1)))
        u3 = self.u3(torch.cat([nn.functional.interpolate(t4, scale_factor=2.0), p3], 1))
        d4 = self.d4(torch.cat([self.d3(u3), t4], 1))
        d5 = self.d5(torch.cat([self.d4b(d4), t5], 1))
        boxes, scores = [], []
        for head, x, stride, anchors in zip(self.heads, (u3, d4, d5), self.strides, self.anchors):
            b, _, h, w = x.shape
            y = head(x).view(b, 3, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2).sigmoid()
            gy, gx = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
            grid = torch.stack([gx, gy], dim=-1) - 0.5
            anchor = torch.tensor(anchors, dtype=torch.float32).view(1, 3, 1, 1, 2)
            centre = (y[..., 0:2] * 2 + grid) * stride
            size = (y[..., 2:4] * 2) ** 2 * anchor
            boxes.append(torch.cat([centre - size / 2, centre + size / 2], dim=-1).reshape(b, -1, 4))
            scores.append((y[..., 4:5] * y[..., 5:]).reshape(b, -1, self.classes))
        return torch.cat(boxes, 1), torch.cat(scores, 1).transpose(1, 2)


def detector(small):
    module = settle(Detector(4, 1, 3) if small else Detector(32, 1, 80))
    with torch.no_grad():  # spread the scores, or nothing passes the threshold
        for head in module.heads:
            head.weight.mul_(8)
    side = 64 if small else 640
    inputs = [{"image": torch.rand(b, 3, side, side)} for b in (1, 2, 1)]
    return Built(module, inputs, ["boxes", "scores"], {"image": {0: "batch"}})


def add_suppression(model: onnx.ModelProto) -> None:
    """Appends what detectors are deployed with: NonMaxSuppression, and the boxes and scores that it selects."""
    g = model.graph

    def constant(name, value, dtype):
        g.initializer.append(numpy_helper.from_array(numpy.array(value, dtype), name))
        return name

    most, iou = constant("nms_most", [20], "int64"), constant("nms_iou", [0.5], "float32")
    threshold, column = constant("nms_score", [0.45], "float32"), constant("nms_columns", [0, 2], "int64")
    triple = constant("nms_all", [0, 1, 2], "int64")
    g.node.extend([
        helper.make_node("NonMaxSuppression", ["boxes", "scores", most, iou, threshold], ["selected"]),
        helper.make_node("Gather", ["selected", column], ["selected_box"], axis=1),
        helper.make_node("GatherND", ["boxes", "selected_box"], ["selected_boxes"]),
        helper.make_node("Gather", ["selected", triple], ["selected_score"], axis=1),
        helper.make_node("GatherND", ["scores", "selected_score"], ["selected_scores"]),
    ])
    g.output.extend([
        helper.make_tensor_value_info("selected", TensorProto.INT64, ["count", 3]),
        helper.make_tensor_value_info("selected_boxes", TensorProto.FLOAT, ["count", 4]),
        helper.make_tensor_value_info("selected_scores", TensorProto.FLOAT, ["count"]),
    ])
