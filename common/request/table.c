/* The rows of the parameter table, and the words that belong to one parameter only.  A parameter
 * whose rules differ between the families has one row per family.  Names, limits and defaults are
 * the service's (model pages of runware:97@1 and 97@3, and the reference of imageInference); labels
 * and help are ours. */
#include "table.h"

/* ---- words ------------------------------------------------------------------------------- */

static const rv__word output_types[] = {
    {"URL", "The picture is stored and the reply names its address."},
    {"base64Data", "The reply carries the file as base64."},
    {"dataURI", "The reply carries the file as a data URI."},
    {0},
};

static const rv__word output_formats[] = {
    {"JPG", "Small files, no transparency.", "JPEG"},
    {"PNG", "Lossless, with transparency."},
    {"WEBP", "Small files, with transparency."},
    {0},
};

static const rv__word delivery_methods[] = {
    {"sync", "The reply waits for all pictures."},
    {"async", "The reply comes at once; ask for the pictures with getResponse."},
    {0},
};

static const rv__word safety_modes[] = {
    {"none", "Nothing is checked."},
    {"fast", "Each picture is checked once."},
    {0},
};

static const rv__word safety_modes_generic[] = {
    {"none", "Nothing is checked."},
    {"fast", "Each picture is checked once; of a video the first, middle and last frame."},
    {"full", "Every frame of a video is checked."},
    {0},
};

static const rv__word lora_stages[] = {
    {"high", "Only the noisy first half of the steps, which sets the composition."},
    {"low", "Only the second half of the steps, which draws the details."},
    {"both", "All steps."},
    {0},
};

static const rv__word weightings[] = {
    {"compel", "Plus and minus signs, weights in brackets, blend and and."},
    {"sdEmbeds", "Round brackets for more, square brackets for less, (text:1.5) for a number."},
    {0},
};

static const rv__word accelerations[] = {
    {"none", "No preset."},
    {"low", "A little faster with next to no loss."},
    {"medium", "Balanced."},
    {"high", "As fast as possible."},
    {0},
};

static const rv__word ace_types[] = {
    {"portrait", "Keeps a face."},
    {"subject", "Keeps an object or a logo."},
    {"local_editing", "Changes a masked region."},
    {0},
};

static const rv__word control_modes[] = {
    {"prompt", "The prompt matters more."},
    {"controlnet", "The guide picture matters more."},
    {"balanced", "Both matter the same."},
    {0},
};

static const rv__word rendering_speeds[] = {
    {"TURBO", "Fastest."},
    {"DEFAULT", "Balanced."},
    {"QUALITY", "Best and slowest; 3.0 models only."},
    {0},
};

static const rv__word magic_prompts[] = {
    {"AUTO", "The provider decides whether to enrich the prompt."},
    {"ON", "Always enriches the prompt."},
    {"OFF", "Takes the prompt as it is."},
    {0},
};

static const rv__word style_types[] = {
    {"AUTO", "The provider chooses."},
    {"GENERAL", "For most subjects."},
    {"REALISTIC", "Like a photograph."},
    {"DESIGN", "Graphics, logos and lettering."},
    {"RENDER_3D", "Rendered in three dimensions; 1.0, 2.0 and 2a models only."},
    {"ANIME", "Anime; 1.0, 2.0 and 2a models only."},
    {"FICTION", "Fictional and fantastic scenes."},
    {0},
};

static const rv__word palettes[] = {
    {"EMBER"}, {"FRESH"},  {"JUNGLE"}, {"MAGIC"},
    {"MELON"}, {"MOSAIC"}, {"PASTEL"}, {"ULTRAMARINE"}, {0},
};

static const rv__word mediums[] = {
    {"photography", "Looks like a photograph."},
    {"art", "Looks drawn or painted."},
    {0},
};

/* ---- members of objects ------------------------------------------------------------------ */

static const rv__field safety_fields[] = {
    {.name = "checkContent", .type = RV__BOOL, .families = RV__EVERY, .preset = "false",
     .group = "Safety", .label = "Check content",
     .help = "Looks for unsafe content; the same as mode fast. An explicit mode wins."},
    {.name = "mode", .type = RV__TEXT, .families = RV__HIDREAM, .preset = "\"none\"",
     .words = safety_modes, .group = "Safety", .label = "Mode",
     .help = "How thoroughly content is checked."},
    {.name = "mode", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"none\"",
     .words = safety_modes_generic, .group = "Safety", .label = "Mode",
     .help = "How thoroughly content is checked."},
    {0},
};

static const rv__field lora_fields[] = {
    {.name = "model", .type = RV__TEXT, .families = RV__EVERY, .format = RV__AIR, .required = true,
     .group = "LoRA", .label = "LoRA", .help = "Identifier of the LoRA."},
    {.name = "weight", .type = RV__FLOAT, .families = RV__HIDREAM, .min = -4, .max = 4, .step = 0.01,
     .preset = "1", .group = "LoRA", .label = "Weight",
     .help = "Strength; 0 has no influence, negative values steer away from the style."},
    {.name = "weight", .type = RV__FLOAT, .families = RV__GENERIC, .min = -4, .max = 4,
     .preset = "1", .group = "LoRA", .label = "Weight",
     .help = "Strength; 0 has no influence, negative values steer away from the style."},
    {.name = "transformer", .type = RV__TEXT, .families = RV__HIDREAM, .preset = "\"both\"",
     .words = lora_stages, .group = "LoRA", .label = "Stage",
     .help = "Part of the denoising that the LoRA takes part in."},
    {0},
};

static const rv__field accelerator_fields[] = {
    {.name = "teaCache", .type = RV__BOOL, .families = RV__EVERY, .preset = "false",
     .group = "Speed", .label = "TeaCache",
     .help = "Skips transformer steps whose result is estimated to change little."},
    {.name = "teaCacheDistance", .also = "cacheDistance", .type = RV__FLOAT, .families = RV__HIDREAM,
     .max = 1, .step = 0.01, .preset = "0.5", .group = "Speed", .label = "TeaCache distance",
     .help = "Estimated change that is still skipped; low favours quality, high favours speed."},
    {.name = "teaCacheDistance", .also = "cacheDistance", .type = RV__FLOAT, .families = RV__GENERIC,
     .max = 1, .preset = "0.5", .group = "Speed", .label = "TeaCache distance",
     .help = "Estimated change that is still skipped; low favours quality, high favours speed."},
    {.name = "fbCache", .also = "fbcache", .type = RV__BOOL, .families = RV__HIDREAM,
     .preset = "false", .group = "Speed", .label = "First block cache",
     .help = "Skips the later blocks while the first block's result changes little."},
    {.name = "fbCacheThreshold", .type = RV__FLOAT, .families = RV__HIDREAM, .max = 1, .step = 0.01,
     .preset = "0.25", .group = "Speed", .label = "First block threshold",
     .help = "When results are reused; lower values reuse more."},
    {.name = "dbCache", .type = RV__BOOL, .families = RV__HIDREAM, .preset = "false",
     .group = "Speed", .label = "Dual block cache",
     .help = "Reuses the results of the middle blocks while the outer blocks change little."},
    {.name = "dbCacheThreshold", .type = RV__FLOAT, .families = RV__HIDREAM, .max = 1, .step = 0.01,
     .preset = "0.25", .group = "Speed", .label = "Dual block threshold",
     .help = "When blocks are reused; lower values reuse more, higher values favour quality."},
    {.name = "dbCacheSkipInterval", .type = RV__INT, .families = RV__HIDREAM, .min = 1,
     .preset = "5", .unit = "steps", .group = "Speed", .label = "Dual block interval",
     .help = "Steps between refreshes of the cache; more is faster and less exact."},
    {.name = "deepCache", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Speed", .label = "DeepCache",
     .help = "Reuses the deep layers of UNet models; transformers have none."},
    {.name = "deepCacheInterval", .type = RV__INT, .families = RV__GENERIC, .min = 1, .preset = "3",
     .unit = "steps", .group = "Speed", .label = "DeepCache interval",
     .help = "Steps between refreshes; more is faster and less exact."},
    {.name = "deepCacheBranchId", .type = RV__INT, .families = RV__GENERIC, .preset = "0",
     .group = "Speed", .label = "DeepCache branch",
     .help = "Branch that is cached, counted from the shallowest; low is faster."},
    {.name = "cacheStartStep", .type = RV__INT, .families = RV__EVERY, .unit = "steps",
     .group = "Speed", .label = "Cache from step", .help = "First step that may be skipped."},
    {.name = "cacheStartStepPercentage", .type = RV__INT, .families = RV__EVERY, .max = 99,
     .unit = "%", .group = "Speed", .label = "Cache from",
     .help = "The first step that may be skipped, as a share of all steps."},
    {.name = "cacheEndStep", .also = "cacheStopStep", .type = RV__INT, .families = RV__EVERY,
     .min = 1, .unit = "steps", .group = "Speed", .label = "Cache up to step",
     .help = "Step from which on nothing is skipped; after cacheStartStep, at most steps."},
    {.name = "cacheEndStepPercentage", .type = RV__INT, .families = RV__EVERY, .min = 1, .max = 100,
     .unit = "%", .group = "Speed", .label = "Cache up to",
     .help = "The step from which on nothing is skipped, as a share of all steps."},
    {.name = "cacheMaxConsecutiveSteps", .type = RV__INT, .families = RV__EVERY, .min = 1, .max = 5,
     .preset = "3", .unit = "steps", .group = "Speed", .label = "Most steps in a row",
     .help = "After so many skipped steps one is computed in any case."},
    {0},
};

static const rv__field outpaint_fields[] = {
    {.name = "top", .type = RV__INT, .families = RV__GENERIC, .step = 64, .unit = "px",
     .group = "Input pictures", .label = "Top", .help = "Pixels added above."},
    {.name = "right", .type = RV__INT, .families = RV__GENERIC, .step = 64, .unit = "px",
     .group = "Input pictures", .label = "Right", .help = "Pixels added on the right."},
    {.name = "bottom", .type = RV__INT, .families = RV__GENERIC, .step = 64, .unit = "px",
     .group = "Input pictures", .label = "Bottom", .help = "Pixels added below."},
    {.name = "left", .type = RV__INT, .families = RV__GENERIC, .step = 64, .unit = "px",
     .group = "Input pictures", .label = "Left", .help = "Pixels added on the left."},
    {.name = "blur", .type = RV__INT, .families = RV__GENERIC, .max = 32, .preset = "0",
     .unit = "px", .group = "Input pictures", .label = "Blur",
     .help = "Width of the soft border between old and new parts."},
    {0},
};

static const rv__field advanced_fields[] = {
    {.name = "layerDiffuse", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Output", .label = "Transparent",
     .help = "Makes pictures with transparency (FLUX models); needs PNG or WEBP."},
    {0},
};

static const rv__field pulid_fields[] = {
    {.name = "inputImages", .type = RV__TEXTS, .families = RV__GENERIC, .format = RV__PICTURE,
     .required = true, .min_size = 1, .max_size = 1, .group = "Identity", .label = "Face",
     .help = "One picture with the face to keep."},
    {.name = "idWeight", .type = RV__INT, .families = RV__GENERIC, .max = 3, .preset = "1",
     .group = "Identity", .label = "Weight", .help = "How strictly the face is kept."},
    {.name = "trueCFGScale", .type = RV__FLOAT, .families = RV__GENERIC, .max = 10,
     .group = "Identity", .label = "Face guidance",
     .help = "Guidance towards the face, beside CFGScale."},
    {.name = "CFGStartStep", .type = RV__INT, .families = RV__GENERIC, .max = 10, .unit = "steps",
     .group = "Identity", .label = "From step",
     .help = "Step at which the face starts to matter; early is more alike."},
    {.name = "CFGStartStepPercentage", .type = RV__INT, .families = RV__GENERIC, .max = 100,
     .unit = "%", .group = "Identity", .label = "From",
     .help = "The step at which the face starts to matter, as a share of all steps."},
    {0},
};

static const rv__field ace_fields[] = {
    {.name = "type", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"portrait\"",
     .words = ace_types, .group = "Identity", .label = "Task", .help = "What is kept or changed."},
    {.name = "inputImages", .type = RV__TEXTS, .families = RV__GENERIC, .format = RV__PICTURE,
     .max_size = 1, .group = "Identity", .label = "Picture",
     .help = "The picture to edit or to take the character from."},
    {.name = "inputMasks", .type = RV__TEXTS, .families = RV__GENERIC, .format = RV__PICTURE,
     .max_size = 1, .group = "Identity", .label = "Mask",
     .help = "White where the picture may change, black where it stays."},
    {.name = "repaintingScale", .type = RV__FLOAT, .families = RV__GENERIC, .max = 1, .preset = "0",
     .group = "Identity", .label = "Repainting",
     .help = "0 keeps the character as it is, 1 follows the prompt."},
    {0},
};

static const rv__field refiner_fields[] = {
    {.name = "model", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__AIR, .required = true,
     .group = "Refiner", .label = "Refiner", .help = "Identifier of the refiner (SDXL only)."},
    {.name = "startStep", .type = RV__INT, .families = RV__GENERIC, .min = 2, .unit = "steps",
     .group = "Refiner", .label = "From step", .help = "Step at which the refiner takes over."},
    {.name = "startStepPercentage", .type = RV__INT, .families = RV__GENERIC, .min = 1, .max = 99,
     .unit = "%", .group = "Refiner", .label = "From",
     .help = "The step at which the refiner takes over, as a share of all steps."},
    {0},
};

static const rv__field embedding_fields[] = {
    {.name = "model", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__AIR, .required = true,
     .group = "Embeddings", .label = "Embedding", .help = "Identifier of the embedding."},
    {.name = "weight", .type = RV__FLOAT, .families = RV__GENERIC, .min = -4, .max = 4,
     .preset = "1", .group = "Embeddings", .label = "Weight",
     .help = "Strength; negative values work against it."},
    {0},
};

static const rv__field controlnet_fields[] = {
    {.name = "model", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__AIR, .required = true,
     .group = "ControlNet", .label = "ControlNet", .help = "Identifier of the ControlNet."},
    {.name = "guideImage", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__PICTURE,
     .required = true, .group = "ControlNet", .label = "Guide",
     .help = "The prepared guide picture: edges, a pose, depth."},
    {.name = "weight", .type = RV__FLOAT, .families = RV__GENERIC, .max = 1, .preset = "1",
     .group = "ControlNet", .label = "Weight", .help = "Strength of the guide."},
    /* The reference says at least 1 and shows 0 in its own example. */
    {.name = "startStep", .type = RV__INT, .families = RV__GENERIC, .unit = "steps",
     .group = "ControlNet", .label = "From step", .help = "Step at which the guide begins."},
    {.name = "startStepPercentage", .type = RV__INT, .families = RV__GENERIC, .max = 99,
     .unit = "%", .group = "ControlNet", .label = "From",
     .help = "The step at which the guide begins, as a share of all steps."},
    {.name = "endStep", .type = RV__INT, .families = RV__GENERIC, .min = 1, .unit = "steps",
     .group = "ControlNet", .label = "Up to step", .help = "Step at which the guide ends."},
    {.name = "endStepPercentage", .type = RV__INT, .families = RV__GENERIC, .min = 1, .max = 100,
     .unit = "%", .group = "ControlNet", .label = "Up to",
     .help = "The step at which the guide ends, as a share of all steps."},
    {.name = "controlMode", .type = RV__TEXT, .families = RV__GENERIC, .words = control_modes,
     .group = "ControlNet", .label = "Mode", .help = "What matters more when both disagree."},
    {0},
};

static const rv__field adapter_fields[] = {
    {.name = "model", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__AIR, .required = true,
     .group = "IP-Adapters", .label = "IP-Adapter", .help = "Identifier of the IP-Adapter."},
    {.name = "guideImage", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__PICTURE,
     .required = true, .group = "IP-Adapters", .label = "Guide",
     .help = "Picture that guides style and content."},
    {.name = "weight", .type = RV__FLOAT, .families = RV__GENERIC, .max = 1, .preset = "1",
     .group = "IP-Adapters", .label = "Weight", .help = "Strength of the guide."},
    {0},
};

static const rv__field bfl_fields[] = {
    {.name = "promptUpsampling", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Providers", .label = "Enrich prompt", .help = "Adds details to the prompt."},
    {.name = "safetyTolerance", .type = RV__INT, .families = RV__GENERIC, .max = 6, .preset = "2",
     .group = "Providers", .label = "Safety tolerance", .help = "0 is strictest, 6 most lenient."},
    {.name = "raw", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Providers", .label = "Raw", .help = "Leaves out the provider's finishing touches."},
    {0},
};

static const rv__field bytedance_fields[] = {
    {.name = "maxSequentialImages", .type = RV__INT, .families = RV__GENERIC, .min = 1, .max = 15,
     .unit = "pictures", .group = "Providers", .label = "Pictures in sequence",
     .help = "Most pictures of one story; with the reference pictures at most 15."},
    {0},
};

static const rv__field color_fields[] = {
    {.name = "colorHex", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__COLOR,
     .required = true, .group = "Providers", .label = "Colour", .help = "#RRGGBB or #RGB."},
    {.name = "colorWeight", .type = RV__FLOAT, .families = RV__GENERIC, .min = 0.05, .max = 1,
     .group = "Providers", .label = "Weight", .help = "Share of the colour, largest first."},
    {0},
};

static const rv__field palette_fields[] = {
    {.name = "name", .type = RV__TEXT, .families = RV__GENERIC, .words = palettes,
     .group = "Providers", .label = "Name", .help = "A ready-made palette."},
    {.name = "members", .type = RV__LIST, .families = RV__GENERIC, .fields = color_fields,
     .min_size = 1, .group = "Providers", .label = "Colours", .help = "A palette of your own."},
    {0},
};

static const rv__field ideogram_fields[] = {
    {.name = "renderingSpeed", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"DEFAULT\"",
     .words = rendering_speeds, .group = "Providers", .label = "Speed",
     .help = "Balance of speed and quality."},
    {.name = "magicPrompt", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"AUTO\"",
     .words = magic_prompts, .group = "Providers", .label = "Enrich prompt",
     .help = "Whether the prompt is enriched."},
    {.name = "styleType", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"AUTO\"",
     .words = style_types, .group = "Providers", .label = "Style", .help = "General look."},
    {.name = "styleReferenceImages", .type = RV__TEXTS, .families = RV__GENERIC,
     .format = RV__PICTURE, .min_size = 1, .max_size = 4, .group = "Providers",
     .label = "Style pictures", .help = "Up to four pictures whose style is taken over."},
    {.name = "remixStrength", .type = RV__INT, .families = RV__GENERIC, .min = 1, .max = 100,
     .preset = "50", .group = "Providers", .label = "Remix strength",
     .help = "How far a remix moves away from its picture."},
    {.name = "stylePreset", .type = RV__TEXT, .families = RV__GENERIC,
     .words = rv__style_preset_words, .group = "Providers", .label = "Style preset",
     .help = "A ready-made style; 3.0 models only."},
    {.name = "styleCode", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__HEX8,
     .group = "Providers", .label = "Style code",
     .help = "Eight hexadecimal digits that name a style; not with styleType or pictures."},
    {.name = "colorPalette", .type = RV__OBJECT, .families = RV__GENERIC, .fields = palette_fields,
     .group = "Providers", .label = "Palette", .help = "Colours to use; Ideogram 2.0 only."},
    {0},
};

static const rv__field bria_fields[] = {
    {.name = "promptEnhancement", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Providers", .label = "Enrich prompt", .help = "Adds details to the prompt."},
    {.name = "medium", .type = RV__TEXT, .families = RV__GENERIC, .words = mediums,
     .group = "Providers", .label = "Medium", .help = "Photograph or art."},
    {.name = "enhanceImage", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Providers", .label = "Enhance", .help = "Adds details and sharper textures."},
    {.name = "promptContentModeration", .type = RV__BOOL, .families = RV__GENERIC, .preset = "true",
     .group = "Providers", .label = "Check prompt", .help = "Refuses prompts with unsafe words."},
    {.name = "contentModeration", .type = RV__BOOL, .families = RV__GENERIC, .preset = "true",
     .group = "Providers", .label = "Check pictures", .help = "Refuses unsafe pictures."},
    {.name = "ipSignal", .type = RV__BOOL, .families = RV__GENERIC, .preset = "false",
     .group = "Providers", .label = "Protected content",
     .help = "Tells when prompt or picture may touch somebody's rights."},
    {0},
};

static const rv__field provider_fields[] = {
    {.name = "bfl", .type = RV__OBJECT, .families = RV__GENERIC, .fields = bfl_fields,
     .group = "Providers", .label = "Black Forest Labs", .help = "Settings of this provider."},
    {.name = "bytedance", .type = RV__OBJECT, .families = RV__GENERIC, .fields = bytedance_fields,
     .group = "Providers", .label = "ByteDance", .help = "Settings of this provider."},
    {.name = "ideogram", .type = RV__OBJECT, .families = RV__GENERIC, .fields = ideogram_fields,
     .group = "Providers", .label = "Ideogram", .help = "Settings of this provider."},
    {.name = "bria", .type = RV__OBJECT, .families = RV__GENERIC, .fields = bria_fields,
     .group = "Providers", .label = "Bria", .help = "Settings of this provider."},
    {0},
};

/* ---- the task ---------------------------------------------------------------------------- */

const rv__field rv__table[] = {
    {.name = "taskType", .type = RV__TEXT, .families = RV__EVERY, .required = true,
     .code = "unsupportedTaskType", .group = "Task", .label = "Task type",
     .help = "What is to be done: imageInference."},
    {.name = "taskUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .required = true, .group = "Task", .label = "Task UUID",
     .help = "Your identifier of the task, a random UUID; every task needs a new one."},
    {.name = "model", .type = RV__TEXT, .families = RV__EVERY, .required = true, .group = "Task",
     .label = "Model", .help = "Identifier of the model, or one of its aliases."},

    {.name = "positivePrompt", .type = RV__TEXT, .families = RV__HIDREAM, .required = true,
     .min_size = 1, .max_size = 10000, .length_code = "invalidPositivePromptLength",
     .group = "Prompt", .label = "Prompt",
     .help = "What the picture shows; __BLANK__ makes one without any words."},
    {.name = "positivePrompt", .type = RV__TEXT, .families = RV__GENERIC, .required = true,
     .min_size = 2, .max_size = 3000, .length_code = "invalidPositivePromptLength",
     .group = "Prompt", .label = "Prompt",
     .help = "What the picture shows; __BLANK__ makes one without any words."},
    {.name = "negativePrompt", .type = RV__TEXT, .families = RV__HIDREAM, .skip_empty = true,
     .max_size = 10000, .length_code = "invalidNegativePromptLength", .group = "Prompt",
     .label = "Negative prompt",
     .help = "What the picture should not show; works only with CFGScale above 1."},
    {.name = "negativePrompt", .type = RV__TEXT, .families = RV__GENERIC, .skip_empty = true,
     .min_size = 2, .max_size = 3000, .length_code = "invalidNegativePromptLength",
     .group = "Prompt", .label = "Negative prompt",
     .help = "What the picture should not show; works only with CFGScale above 1."},
    {.name = "promptWeighting", .type = RV__TEXT, .families = RV__GENERIC, .words = weightings,
     .group = "Prompt", .label = "Weighting", .help = "How parts of the prompt are stressed."},

    {.name = "width", .type = RV__INT, .families = RV__HIDREAM, .min = 128, .max = 2048, .step = 16,
     .preset = "1024", .code = "invalidCustomWidth", .unit = "px", .group = "Size",
     .label = "Width", .help = "From left to right; only together with height."},
    {.name = "width", .type = RV__INT, .families = RV__GENERIC, .min = 128, .max = 2048, .step = 64,
     .code = "invalidCustomWidth", .unit = "px", .group = "Size", .label = "Width",
     .help = "From left to right."},
    {.name = "height", .type = RV__INT, .families = RV__HIDREAM, .min = 128, .max = 2048,
     .step = 16, .preset = "1024", .code = "invalidCustomHeight", .unit = "px", .group = "Size",
     .label = "Height", .help = "From top to bottom; only together with width."},
    {.name = "height", .type = RV__INT, .families = RV__GENERIC, .min = 128, .max = 2048,
     .step = 64, .code = "invalidCustomHeight", .unit = "px", .group = "Size", .label = "Height",
     .help = "From top to bottom."},

    /* The maximum is 2^63 as JavaScript prints it. */
    {.name = "seed", .type = RV__UINT, .families = RV__HIDREAM,
     .max_uint = UINT64_C(9223372036854776000), .group = "Sampling", .label = "Seed",
     .help = "The same seed gives the same picture again; without it one of 32 bits is drawn."},
    {.name = "seed", .type = RV__UINT, .families = RV__GENERIC, .min = 1,
     .max_uint = UINT64_C(9223372036854776000), .group = "Sampling", .label = "Seed",
     .help = "The same seed gives the same picture again; without it one of 32 bits is drawn."},
    {.name = "steps", .type = RV__INT, .families = RV__HIDREAM, .min = 1, .capped = true,
     .preset = "30", .unit = "steps", .group = "Sampling", .label = "Steps",
     .help = "Denoising steps; more show more detail and take longer."},
    {.name = "steps", .type = RV__INT, .families = RV__GENERIC, .min = 1, .max = 100,
     .capped = true, .preset = "20", .unit = "steps", .group = "Sampling", .label = "Steps",
     .help = "Denoising steps; more show more detail and take longer."},
    {.name = "scheduler", .type = RV__TEXT, .families = RV__HIDREAM, .preset = "\"Default\"",
     .words = rv__scheduler_words, .group = "Sampling", .label = "Scheduler",
     .help = "How the noise is taken away; Default is the model's own."},
    {.name = "scheduler", .type = RV__TEXT, .families = RV__GENERIC, .min_size = 1, .max_size = 100,
     .group = "Sampling", .label = "Scheduler",
     .help = "How the noise is taken away; without it the model's own."},
    {.name = "CFGScale", .type = RV__FLOAT, .families = RV__HIDREAM, .step = 0.01,
     .group = "Sampling", .label = "Guidance",
     .help = "How closely the prompt is followed; up to 1 there is no guidance."},
    {.name = "CFGScale", .type = RV__FLOAT, .families = RV__GENERIC, .max = 50, .preset = "7",
     .group = "Sampling", .label = "Guidance",
     .help = "How closely the prompt is followed; up to 1 there is no guidance."},
    {.name = "clipSkip", .type = RV__INT, .families = RV__GENERIC, .max = 2, .unit = "layers",
     .group = "Sampling", .label = "CLIP skip",
     .help = "Layers of the CLIP encoder to leave out beyond the model's own."},
    {.name = "vae", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__AIR,
     .group = "Sampling", .label = "VAE", .help = "Another decoder than the model's own."},
    {.name = "numberResults", .type = RV__INT, .families = RV__EVERY, .min = 1, .max = 20,
     .preset = "1", .unit = "pictures", .group = "Sampling", .label = "Pictures",
     .help = "How many variations are made, each with another seed."},

    {.name = "seedImage", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__PICTURE,
     .group = "Input pictures", .label = "Start picture",
     .help = "Picture to start from: for variations, inpainting and outpainting."},
    {.name = "maskImage", .type = RV__TEXT, .families = RV__GENERIC, .format = RV__PICTURE,
     .group = "Input pictures", .label = "Mask",
     .help = "White where the start picture may change, black where it stays."},
    {.name = "maskMargin", .type = RV__INT, .families = RV__GENERIC, .min = 32, .max = 128,
     .unit = "px", .group = "Input pictures", .label = "Mask margin",
     .help = "Works on the masked part alone with so many pixels around it."},
    {.name = "strength", .type = RV__FLOAT, .families = RV__GENERIC, .max = 1, .preset = "0.8",
     .group = "Input pictures", .label = "Strength",
     .help = "How far the result may leave the start picture; 0 keeps it, 1 ignores it."},
    {.name = "referenceImages", .type = RV__TEXTS, .families = RV__GENERIC, .format = RV__PICTURE,
     .max_size = 14, .group = "Input pictures", .label = "Reference pictures",
     .help = "Pictures that guide style and content: FLUX.1 Kontext takes two, ACE++ one."},
    {.name = "outpaint", .type = RV__OBJECT, .families = RV__GENERIC, .fields = outpaint_fields,
     .group = "Input pictures", .label = "Extend",
     .help = "Widens the start picture; width and height are those of the result."},

    {.name = "lora", .type = RV__LIST, .families = RV__HIDREAM, .fields = lora_fields,
     .min_size = 1, .max_size = 32, .group = "LoRA", .label = "LoRAs",
     .help = "Small add-ons that change style or subject; they add up."},
    {.name = "lora", .type = RV__LIST, .families = RV__GENERIC, .fields = lora_fields,
     .max_size = 32, .group = "LoRA", .label = "LoRAs",
     .help = "Small add-ons that change style or subject; they add up."},
    {.name = "embeddings", .type = RV__LIST, .families = RV__GENERIC, .fields = embedding_fields,
     .max_size = 32, .group = "Embeddings", .label = "Embeddings",
     .help = "Learned words that stand for a concept or style."},
    {.name = "controlNet", .type = RV__LIST, .families = RV__GENERIC, .fields = controlnet_fields,
     .max_size = 32, .group = "ControlNet", .label = "ControlNets",
     .help = "Guide pictures that fix the structure."},
    {.name = "ipAdapters", .type = RV__LIST, .families = RV__GENERIC, .fields = adapter_fields,
     .max_size = 32, .group = "IP-Adapters", .label = "IP-Adapters",
     .help = "Pictures that work like a prompt."},
    {.name = "refiner", .type = RV__OBJECT, .families = RV__GENERIC, .fields = refiner_fields,
     .group = "Refiner", .label = "Refiner", .help = "A second model for the last steps."},
    {.name = "puLID", .type = RV__OBJECT, .families = RV__GENERIC, .fields = pulid_fields,
     .group = "Identity", .label = "PuLID", .help = "Keeps the face of a picture."},
    {.name = "acePlusPlus", .type = RV__OBJECT, .families = RV__GENERIC, .fields = ace_fields,
     .group = "Identity", .label = "ACE++",
     .help = "Keeps a character or edits a region; model runware:102@1 with referenceImages."},

    {.name = "acceleration", .type = RV__TEXT, .families = RV__GENERIC, .preset = "\"none\"",
     .words = accelerations, .group = "Speed", .label = "Preset",
     .help = "Ready-made speed settings; single parameters override them."},
    {.name = "acceleratorOptions", .type = RV__OBJECT, .families = RV__EVERY,
     .fields = accelerator_fields, .group = "Speed", .label = "Caches",
     .help = "Skips work that changes little between steps; at most one cache at a time."},
    {.name = "advancedFeatures", .type = RV__OBJECT, .families = RV__GENERIC,
     .fields = advanced_fields, .group = "Output", .label = "Special features",
     .help = "Features that extend the generation."},

    {.name = "outputType", .type = RV__TEXT, .families = RV__EVERY, .preset = "\"URL\"",
     .words = output_types, .group = "Output", .label = "Returned as",
     .help = "How the reply carries the pictures."},
    {.name = "outputFormat", .type = RV__TEXT, .families = RV__EVERY, .preset = "\"JPG\"",
     .words = output_formats, .group = "Output", .label = "Format", .help = "File format."},
    {.name = "outputQuality", .type = RV__INT, .families = RV__EVERY, .min = 20, .max = 99,
     .preset = "95", .group = "Output", .label = "Quality",
     .help = "Compression; higher keeps more and makes larger files."},
    {.name = "safety", .type = RV__OBJECT, .families = RV__EVERY, .fields = safety_fields,
     .group = "Safety", .label = "Safety", .help = "Whether and how content is checked."},
    {.name = "checkNSFW", .type = RV__BOOL, .families = RV__EVERY, .legacy = true,
     .group = "Safety", .label = "Check content",
     .help = "Older spelling of safety.checkContent, which wins."},

    {.name = "deliveryMethod", .type = RV__TEXT, .families = RV__EVERY, .preset = "\"sync\"",
     .words = delivery_methods, .group = "Delivery", .label = "Delivery",
     .help = "Whether the reply waits for the pictures."},
    {.name = "webhookURL", .type = RV__TEXT, .families = RV__EVERY, .format = RV__URL,
     .group = "Delivery", .label = "Webhook",
     .help = "Address that gets each result by HTTP POST as soon as it is there."},
    {.name = "uploadEndpoint", .type = RV__TEXT, .families = RV__EVERY, .format = RV__URL,
     .group = "Delivery", .label = "Upload to",
     .help = "Address that gets each file by HTTP PUT, for example a presigned one."},
    {.name = "ttl", .type = RV__INT, .families = RV__EVERY, .min = 60, .unit = "s",
     .group = "Delivery", .label = "Lifetime",
     .help = "Seconds a stored picture stays; only with outputType URL."},
    {.name = "includeCost", .type = RV__BOOL, .families = RV__EVERY, .preset = "false",
     .group = "Delivery", .label = "Tell the cost", .help = "Adds the price to each result."},

    {.name = "providerSettings", .type = RV__OBJECT, .families = RV__GENERIC,
     .fields = provider_fields, .group = "Providers", .label = "Provider settings",
     .help = "Settings that only one provider knows."},
    {0},
};

const rv__field rv__authentication_table[] = {
    {.name = "taskType", .type = RV__TEXT, .families = RV__EVERY, .required = true,
     .group = "Task", .label = "Task type", .help = "authentication"},
    {.name = "taskUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .group = "Task", .label = "Task UUID", .help = "Your identifier of the task."},
    {.name = "apiKey", .type = RV__TEXT, .families = RV__EVERY, .required = true, .min_size = 1,
     .max_size = 512, .group = "Task", .label = "API key", .help = "The key of your account."},
    {.name = "connectionSessionUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .group = "Task", .label = "Session",
     .help = "Identifier of an earlier connection to go on with."},
    {0},
};

const rv__field rv__ping_table[] = {
    {.name = "taskType", .type = RV__TEXT, .families = RV__EVERY, .required = true,
     .group = "Task", .label = "Task type", .help = "ping"},
    {.name = "taskUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .group = "Task", .label = "Task UUID", .help = "Your identifier of the task."},
    {.name = "ping", .type = RV__BOOL, .families = RV__EVERY, .preset = "true", .group = "Task",
     .label = "Ping", .help = "Always true."},
    {0},
};

const rv__field rv__response_table[] = {
    {.name = "taskType", .type = RV__TEXT, .families = RV__EVERY, .required = true,
     .group = "Task", .label = "Task type", .help = "getResponse"},
    {.name = "taskUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .required = true, .group = "Task", .label = "Task UUID",
     .help = "The taskUUID of the task that is asked about."},
    {0},
};

const rv__field rv__upload_table[] = {
    {.name = "taskType", .type = RV__TEXT, .families = RV__EVERY, .required = true,
     .group = "Task", .label = "Task type", .help = "imageUpload"},
    {.name = "taskUUID", .type = RV__TEXT, .families = RV__EVERY, .format = RV__UUID,
     .required = true, .group = "Task", .label = "Task UUID",
     .help = "Your identifier of the task."},
    {.name = "image", .type = RV__TEXT, .families = RV__EVERY, .format = RV__PICTURE,
     .required = true, .group = "Task", .label = "Picture",
     .help = "PNG, JPEG or WebP file: URL, data URI or base64."},
    {0},
};
