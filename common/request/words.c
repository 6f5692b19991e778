/* The two long word lists of the parameter table. */
#include "table.h"

/* Solver, SDE where it adds noise, and the spacing of the sigmas (Karras, Exponential, Beta, Uniform); names that end
 * in Scheduler are those of the diffusers classes.  Order and spelling (with the blank in "Euler DiscreteScheduler")
 * are the service's. */
const rv__word rv__scheduler_words[] = {
    {"DDIM"}, {"DDIMScheduler"}, {"DDPMScheduler"}, {"DEISMultistepScheduler"}, {"Default"},
    {"DPM++"}, {"DPM++ 2M"}, {"DPM++ 2M Beta"}, {"DPM++ 2M Exponential"}, {"DPM++ 2M Karras"},
    {"DPM++ 2M SDE"}, {"DPM++ 2M SDE Beta"}, {"DPM++ 2M SDE Exponential"}, {"DPM++ 2M SDE Karras"},
    {"DPM++ 2M SDE Uniform"}, {"DPM++ 2M Uniform"}, {"DPM++ 3M"}, {"DPM++ 3M Beta"},
    {"DPM++ 3M Exponential"}, {"DPM++ 3M Karras"}, {"DPM++ 3M SDE Uniform"}, {"DPM++ 3M Uniform"},
    {"DPM++ Beta"}, {"DPM++ Exponential"}, {"DPM++ Karras"}, {"DPM++ SDE"}, {"DPM++ SDE Beta"},
    {"DPM++ SDE Exponential"}, {"DPM++ SDE Karras"}, {"DPM++ Uniform"}, {"DPM++ Uniform Beta"},
    {"DPM++ Uniform Exponential"}, {"DPM++ Uniform Karras"}, {"DPMSolverMultistepInverse"},
    {"DPMSolverMultistepScheduler"}, {"DPMSolverSinglestepScheduler"},
    {"EDMDPMSolverMultistepScheduler"}, {"EDMEulerScheduler"}, {"Euler"}, {"Euler a"},
    {"Euler Beta"}, {"Euler DiscreteScheduler"}, {"Euler Exponential"}, {"Euler Karras"},
    {"EulerAncestralDiscreteScheduler"}, {"FlowMatchEulerDiscreteScheduler"}, {"Heun"},
    {"HeunDiscreteScheduler"}, {"Heun Karras"}, {"IPNDMScheduler"}, {"IPNDM Uniform"},
    {"IPNDM Uniform Beta"}, {"IPNDM Uniform Exponential"}, {"IPNDM Uniform Karras"},
    {"KDPM2AncestralDiscreteScheduler"}, {"KDPM2DiscreteScheduler"}, {"LCM"}, {"LCMScheduler"},
    {"LMS"}, {"LMSDiscreteScheduler"}, {"LMS Karras"}, {"PNDMScheduler"}, {"TCDScheduler"},
    {"UniPC"}, {"UniPC 2M"}, {"UniPC 2M Karras"}, {"UniPC 2M Uniform"}, {"UniPC 3M"},
    {"UniPC 3M Karras"}, {"UniPC 3M Uniform"}, {"UniPC Karras"}, {"UniPC Uniform"},
    {"UniPC Uniform Beta"}, {"UniPC Uniform Exponential"}, {"UniPC Uniform Karras"},
    {0},
};

/* Providers' style presets. */
const rv__word rv__style_preset_words[] = {
    {"80S_ILLUSTRATION"}, {"90S_NOSTALGIA"}, {"ABSTRACT_ORGANIC"}, {"ANALOG_NOSTALGIA"},
    {"ART_BRUT"}, {"ART_DECO"}, {"ART_POSTER"}, {"AURA"}, {"AVANT_GARDE"}, {"BAUHAUS"},
    {"BLUEPRINT"}, {"BLURRY_MOTION"}, {"BRIGHT_ART"}, {"C4D_CARTOON"}, {"CHILDRENS_BOOK"},
    {"COLLAGE"}, {"COLORING_BOOK_I"}, {"COLORING_BOOK_II"}, {"CUBISM"}, {"DARK_AURA"}, {"DOODLE"},
    {"DOUBLE_EXPOSURE"}, {"DRAMATIC_CINEMA"}, {"EDITORIAL"}, {"EMOTIONAL_MINIMAL"},
    {"ETHEREAL_PARTY"}, {"EXPIRED_FILM"}, {"FLAT_ART"}, {"FLAT_VECTOR"}, {"FOREST_REVERIE"},
    {"GEO_MINIMALIST"}, {"GLASS_PRISM"}, {"GOLDEN_HOUR"}, {"GRAFFITI_I"}, {"GRAFFITI_II"},
    {"HALFTONE_PRINT"}, {"HIGH_CONTRAST"}, {"HIPPIE_ERA"}, {"ICONIC"}, {"JAPANDI_FUSION"},
    {"JAZZY"}, {"LONG_EXPOSURE"}, {"MAGAZINE_EDITORIAL"}, {"MINIMAL_ILLUSTRATION"}, {"MIXED_MEDIA"},
    {"MONOCHROME"}, {"NIGHTLIFE"}, {"OIL_PAINTING"}, {"OLD_CARTOONS"}, {"PAINT_GESTURE"},
    {"POP_ART"}, {"RETRO_ETCHING"}, {"RIVIERA_POP"}, {"SPOTLIGHT_80S"}, {"STYLIZED_RED"},
    {"SURREAL_COLLAGE"}, {"TRAVEL_POSTER"}, {"VINTAGE_GEO"}, {"VINTAGE_POSTER"}, {"WATERCOLOR"},
    {"WEIRD"}, {"WOODBLOCK_PRINT"},
    {0},
};
