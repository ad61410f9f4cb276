#ifndef LOCKSTEP_SERVER_TENSORBOARD_PROJECTION_H_
#define LOCKSTEP_SERVER_TENSORBOARD_PROJECTION_H_

#include <string>
#include <string_view>
#include <vector>

#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/job.pb.h"
#include "tensorboard/event.pb.h"

// What TensorBoard shows of a job: pure functions of the job's spec and its log, so that an event
// file can be made again at any time, and a page drawn from files shows what one drawn from the
// server does.
namespace lockstep {

namespace tb = ::tensorboard;

// The plugins of TensorBoard that we have data for.
inline constexpr std::string_view kScalars = "scalars";
inline constexpr std::string_view kHistograms = "histograms";
inline constexpr std::string_view kText = "text";
inline constexpr std::string_view kHparams = "hparams";

// The tag of the curve that Curves (server/events/curves.h) names so. What comes before a slash is
// one group of plots: "step_ms" is "timing/step_ms", "epoch_loss" is "epoch/loss".
std::string TagOf(std::string_view curve);
// The curve that has this tag, if any has.
std::string CurveOf(std::string_view tag);

// What a job begins with, before any event: the version of event files, its hyperparameters.
std::vector<tb::Event> ProjectJob(const v1::Job& job);

// What an event of the job's log becomes; of most kinds one event or none. Curves are simple
// values; histograms are tensors [buckets, 3] of left edge, right edge and count; texts, of the tag
// "log", have the number of their event as step, since a time series has but one value a step.
std::vector<tb::Event> ProjectEvent(const v1::Event& event);
// The same without curves: none of a step or epoch record. All values of one are one plugin's.
std::vector<tb::Event> ProjectTensors(const v1::Event& event);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_PROJECTION_H_
