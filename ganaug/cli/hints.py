"""What other programs call a flag or a command, and what it is called here."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_SHOWN = "thousands of images shown"
_MIRROR = "where a mirrored image is still of its class"

# Names elsewhere; a flag of ours that the command must have for the hint to be of use; what to do.
OTHER_NAMES: tuple[tuple[str, str, str], ...] = (
    # How long
    (
        "num_epochs num_train_epochs epochs max_epochs n_epochs nepochs",
        "total_kimg",
        f"use --total_kimg, {_SHOWN}: 10 epochs of 4,000 images are --total_kimg 40",
    ),
    (
        "max_train_steps max_steps num_steps train_steps train_num_steps steps num_iterations iterations n_iter kimg",
        "total_kimg",
        f"use --total_kimg, {_SHOWN}: 5,000 steps of 64 images are --total_kimg 320",
    ),
    (
        "num_epochs num_train_epochs epochs max_epochs n_epochs nepochs",
        "max_steps",
        "use --steps: 10 epochs of 3,200 images in batches of 64 are --steps 500",
    ),
    ("max_train_steps num_steps train_steps num_iterations iterations", "max_steps", "use --steps and --max_steps"),
    # How
    ("lr base_lr g_lr glr lr_g generator_lr", "learning_rate", "use --learning_rate"),
    ("d_lr dlr lr_d discriminator_lr", "discriminator_learning_rate", "use --discriminator_learning_rate"),
    ("lr_scheduler lr_schedule", "lr_decay", "use --lr_decay, the share of the run in which the rate falls to zero"),
    ("beta1 b1 beta_1 adam_b1", "adam_beta1", "use --adam_beta1"),
    ("beta2 b2 beta_2 adam_b2", "adam_beta2", "use --adam_beta2"),
    (
        "batch_size batch bs batch_gpu per_device_train_batch_size",
        "train_batch_size",
        "use --train_batch_size, the images of one process in a step",
    ),
    ("train_batch_size batch bs per_device_train_batch_size", "batch_size", "use --batch_size"),
    ("random_flip horizontal_flip hflip flip mirror", "augment", f"use --augment flip, {_MIRROR}"),
    ("random_flip hflip flip mirror", "horizontal_flip", f"use --horizontal_flip, {_MIRROR}"),
    ("n_critic critic_iters d_steps", "discriminator_steps", "use --discriminator_steps"),
    ("ema use_ema ema_decay ema_max_decay", "ema_kimg", f"use --ema_kimg, the half-life of the average in {_SHOWN}"),
    ("nz z_dim latent_size noise_dim", "latent_dim", "use --latent_dim"),
    ("arch architecture", "model", "use --model"),
    ("fp16 bf16 amp", "mixed_precision", "use --mixed_precision bf16 or no; there is no fp16"),
    (
        "device gpu gpus cuda ngpu num_gpus no_cuda",
        "report_to",
        "leave it out, a GPU is used where there is one; several: accelerate launch -m ganaug train",
    ),
    (
        "num_workers dataloader_num_workers workers n_cpu",
        "total_kimg",
        "leave it out, images are decoded before training",
    ),
    # On what
    ("image_size img_size imsize size", "resolution", "use --resolution"),
    ("center_crop centre_crop", "resolution", "leave it out, --resolution always crops the centre"),
    ("grayscale greyscale", "channels", "use --channels 1"),
    (
        "dataset",
        "dataset_name",
        "use --train_data_dir for a folder, --dataset_name for a dataset of the Hugging Face Hub or torchvision",
    ),
    (
        "data data_dir data_path data_root dataroot train_dir train_data dataset_dir",
        "train_data_dir",
        "use --train_data_dir",
    ),
    ("test_dir test_data val_dir validation_dir", "test_data_dir", "use --test_data_dir"),
    ("split", "test_split", "use --test_split, the held-out images"),
    (
        "max_train_samples",
        "images_per_class",
        "use --images_per_class: 1,000 images of 10 classes are --images_per_class 100",
    ),
    # What is written
    ("output out outdir out_dir output_path save_dir results_folder", "output_dir", "use --output_dir"),
    (
        "checkpointing_steps save_steps snap save_every checkpoint_every",
        "checkpointing_kimg",
        f"use --checkpointing_kimg, {_SHOWN}: every 500 steps of 64 images is --checkpointing_kimg 32",
    ),
    (
        "validation_epochs validation_steps eval_steps eval_every",
        "evaluation_kimg",
        f"use --evaluation_kimg for scores and --sample_kimg for grids, {_SHOWN}: "
        "every 5 epochs of 4,000 images is --sample_kimg 20",
    ),
    (
        "save_images_epochs sample_every sample_interval",
        "sample_kimg",
        f"use --sample_kimg, {_SHOWN}: every 5 epochs of 4,000 images is --sample_kimg 20",
    ),
    (
        "logging_steps log_every log_interval",
        "log_kimg",
        f"use --log_kimg, {_SHOWN}: every 50 steps of 64 images is --log_kimg 3.2",
    ),
    ("log_with logger tracker", "report_to", "use --report_to"),
    ("resume resume_from", "resume_from_checkpoint", "use --resume_from_checkpoint, with latest or the run's folder"),
    ("num_samples n_samples num_images_per_class n num", "num_images", "use --num_images, of all classes together"),
    # The generator
    (
        "checkpoint ckpt ckpt_path model model_path network init_from source pretrained_model_name_or_path",
        "generator",
        "use --generator, with a folder or a Hub id",
    ),
    ("pretrained pretrained_model_name_or_path", "init_from", "use --init_from, with a folder or a Hub id"),
    ("license", "licence", "use --licence"),
    ("private hub_private", "hub_private_repo", "use --hub_private_repo"),
    ("token hub_token", "licence", "set HF_TOKEN instead, for others can see the words of a command"),
)

OTHER_COMMANDS = {
    "evaluate": "eval test score judge",
    "generate": "sample draw gen",
    "train": "fit",
    "adapt": "finetune fine-tune transfer",
    "publish": "push upload",
}


def hint_for(name: str, flags: Collection[str]) -> str | None:
    """What to do instead of giving a flag that a command does not have; None where nothing is known.

    Args:
        name (str): what was given, without dashes in front.
        flags (collection of str): those of the command.
    """
    for others, needed, hint in OTHER_NAMES:
        if name in others.split() and needed in flags:
            return hint
    return None


def command_like(name: str, commands: Collection[str]) -> str | None:
    """The command that was probably meant."""
    for command, others in OTHER_COMMANDS.items():
        if name.lower() in others.split() and command in commands:
            return command
    close = get_close_matches(name.lower(), list(commands), n=1)
    return close[0] if close else None
